"""Flows that stop at a breakpoint, whichever graph it is in."""

from typing import Any

GATED: dict[str, Any] = {}
