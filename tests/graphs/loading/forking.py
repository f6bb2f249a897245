"""Forks, and lets the child go on as if it were the worker."""

import os

from loading import graph

os.fork()
seen = graph()
