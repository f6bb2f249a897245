"""An entry that prints while it is imported."""

from zoo.graphs import linear

print("hello from the import of a user's module")
graph = linear
