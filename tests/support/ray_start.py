"""`ray start` that stays on the loopback, which Ray of itself does not, whatever its options say.

It takes the host's own address for 127.0.0.1 and then listens on every interface. Its dashboard starts even
where it is not included, asks for the metadata of clouds, and reports that usage statistics are off.
"""

import importlib
import sys

services = importlib.import_module("ray._private.services")
services.resolve_ip_for_localhost = lambda host: host
services.start_api_server = lambda *_, **__: ("", None)
sys.argv.insert(1, "start")
sys.exit(importlib.import_module("ray.scripts.scripts").main())
