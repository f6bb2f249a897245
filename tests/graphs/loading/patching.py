"""Makes threads, sockets, sleep and the rest cooperative, for everybody in the process."""

import gevent.monkey

gevent.monkey.patch_all()

from loading import graph  # noqa: E402 - patched first, as the library asks for

seen = graph()
