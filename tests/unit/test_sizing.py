"""The table of docs/scaling.md: from the measured figures, by the formulas that stand above it."""

from fractions import Fraction

import pytest

from support.generated import DOCUMENTS, ROOT, written
from support.sizing import LOADS, OF_A_REPLICA, Costs, Load, Server, costs, first_to_break, rows, size

COSTS = Costs(rate=Fraction(100), postgres=Fraction(5), wal=Fraction(10), worker=Fraction(7), control=Fraction(3))


@pytest.mark.parametrize(
    ("load", "numbers", "figures"),
    [
        (Load("", Fraction(1), Fraction(60)), (60, 4, 80), [0.01, 0.02, 10]),
        (Load("", Fraction(1), Fraction(60), concurrency=64), (60, 1, 68), [0.01, 0.02, 10]),
        (Load("", Fraction(200), Fraction(1, 100)), (2, 4, 80), [2, 4, 2000]),  # the processor decides, not the room
        (Load("", Fraction(200), Fraction(1, 100), processes=2), (2, 2, 72), [2, 4, 2000]),
        (Load("", Fraction(1, 1000), Fraction(1)), (1, 1, 20), [0.00001, 0.00002, 0.01]),
    ],
)
def test_a_load_takes_what_the_formulas_say(load: Load, numbers: tuple[int, int, int], figures: list[float]) -> None:
    needed = size(load, COSTS)
    assert (needed.in_flight, needed.replicas, needed.sessions) == numbers
    assert [float(one) for one in (needed.postgres_cores, needed.replica_cores, needed.wal)] == pytest.approx(figures)


def test_the_table_and_the_costs_are_those_of_the_documents() -> None:
    document = ROOT / "docs" / "scaling.md"
    assert document in DOCUMENTS
    assert document.read_text() == written(document), "run `make generated`"
    assert len(rows()) == len(LOADS)
    told, cost = (ROOT / "docs" / "performance.md").read_text(), costs()
    for figure in (f"| {cost.rate} |", f"{float(cost.postgres)} ms", f"worker {float(cost.worker)} ms"):
        assert figure in told
    assert f"processes x concurrency + {OF_A_REPLICA}" in (ROOT / "config" / "resumed.toml").read_text()
    assert f" concurrency + {OF_A_REPLICA})" in document.read_text()
    assert f"{Server().sessions} connections and {Server().cores} cores" in document.read_text().replace("\n", " ")


def test_what_is_taken_most_is_named() -> None:
    agents, short = size(LOADS[0], COSTS), size(LOADS[-1], COSTS)
    assert first_to_break(agents, Server()).startswith("connections")
    assert first_to_break(short, Server()).startswith("Postgres")
