"""Ask the daemon in this container whether it lives; a slim image has no curl. Ends with 1 where it does not."""

import os
import sys
import urllib.request

port = os.environ.get("RESUMED_HTTP_PORT") or "9764"
try:
    urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=3).close()
except OSError as error:
    sys.exit(f"not alive: {error}")
