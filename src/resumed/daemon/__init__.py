"""The control process: it sweeps, hands out due cases, closes what dead workers left. No user code runs here."""
