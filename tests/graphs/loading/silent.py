"""Closes what everybody prints to."""

import os
import sys

from loading import graph

sys.stdout.close()
os.close(1)
seen = graph()
