"""The workflows by their names, as entry points want them."""

from calls.graphs import ALL

globals().update(ALL)
