"""Takes most files away from everybody."""

import resource

from loading import graph

resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))
seen = graph()
