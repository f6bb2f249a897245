"""Takes the sleep out of everything, as a careless test helper does."""

import time

from loading import graph

time.sleep = lambda _: None
seen = graph()
