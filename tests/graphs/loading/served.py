"""Names the service that every connection of the process is to use."""

import os

from loading import graph

os.environ["PGSERVICE"] = "other"
seen = graph()
