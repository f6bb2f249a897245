"""What others do here does not matter to it."""

from loading import graph

seen = graph()
