"""An import that does not end."""

import threading

threading.Event().wait()
