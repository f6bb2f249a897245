"""Which forms of a promise `make test` runs: the usual ones, where `make test-all` runs every one."""

from collections.abc import Iterable
from typing import Any

import pytest


def usual(every: Iterable[Any], *ours: Any) -> list[Any]:
    """Mark all of these parameters as thorough but for ours."""
    forms = list(every)
    assert set(ours) <= set(forms)
    return [one if one in ours else pytest.param(one, marks=pytest.mark.thorough) for one in forms]
