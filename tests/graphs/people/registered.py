"""The flows as entry points find them, with the serializer that PEOPLE_SERDE names."""

import os

from people.breakpoints import DECLARED, GATED
from people.flows import FLOWS
from people.serde import SERDES
from resumed import Workflow

_SERDE = SERDES[os.environ.get("PEOPLE_SERDE", "plain")]
globals().update({name: Workflow(graph=graph, serde=_SERDE) for name, graph in FLOWS.items()})
globals().update({f"gate_{name}": Workflow(graph=graph, **DECLARED.get(name, {})) for name, graph in GATED.items()})
