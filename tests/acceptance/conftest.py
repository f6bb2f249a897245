"""Gives a test the installed command and the zoo's application as real processes, to be started, watched and killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from resumed.demo.postgres import PrivateServer
from support.bench import Bench, prepared_bench


@pytest.fixture
def bench(database: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(database, tmp_path)
    yield made
    made.end()


@pytest.fixture
def own(private_server: PrivateServer, tmp_path: Path) -> Iterator[Bench]:
    """Give a bench on a server of its own, which the test may stop."""
    with prepared_bench(private_server.dsn(), tmp_path) as made:
        yield made
