"""Two versions of one workflow; the second has the same nodes and accepts what the first one ran."""

from resumed import Workflow
from zoo.graphs import fragile

first = Workflow(graph=fragile, version="1")
second = Workflow(graph=fragile, version="2", accepts=["1"])
