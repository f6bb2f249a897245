"""Gives a test the installed command and the zoo's application as real processes, to be started, watched and killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.bench import Bench


@pytest.fixture
def bench(database: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(database, tmp_path)
    yield made
    made.end()
