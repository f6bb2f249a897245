"""Two releases of an application that do not take each other's threads; the second has renamed a workflow."""

from resumed import Workflow
from zoo.graphs import alinear, linear

old = Workflow(graph=linear, version="1")
new = Workflow(graph=linear, version="2")
before = Workflow(graph=alinear, version="1")
