"""Which forms of a promise `make test` runs: the usual ones, where `make test-all` runs every one."""

from collections.abc import Iterable
from typing import Any

import pytest


def usual(every: Iterable[Any], *ours: Any) -> list[Any]:
    """Mark all of these parameters as thorough but for ours."""
    forms = list(every)
    assert set(ours) <= set(forms)
    return [one if one in ours else pytest.param(one, marks=pytest.mark.thorough) for one in forms]


def small(*values: Any, id: str) -> Any:  # noqa: A002 - as pytest.param has it
    """Have a form that `make test` alone runs, since the whole of it is one of the thorough ones."""
    return pytest.param(*values, id=id, marks=pytest.mark.small)


def whole(*values: Any, id: str) -> Any:  # noqa: A002 - as pytest.param has it
    """Have a form that `make test-all` alone runs."""
    return pytest.param(*values, id=id, marks=pytest.mark.thorough)
