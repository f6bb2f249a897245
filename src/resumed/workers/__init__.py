"""The control process's side of its worker processes: starting them, talking to them, watching them."""
