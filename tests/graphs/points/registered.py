"""The flows as their application registers them: `points.registered:FLOWS.<name>`."""

from types import SimpleNamespace

from points import flows
from resumed import Workflow

FLOWS = SimpleNamespace(
    **{
        name: Workflow(graph=flow.graph, cache=flow.cache) if flow.cache is not None else flow.graph
        for name, flow in flows.FLOWS.items()
    }
)
