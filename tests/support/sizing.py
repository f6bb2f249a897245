"""The model of docs/scaling.md: what a load takes of replicas, connections and Postgres, from the measured costs."""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

PERFORMANCE = Path(__file__).parents[2] / "docs" / "performance.md"
_ROW = re.compile(
    r"^\| replica, one worker \| (?P<rate>\d+) \|[^|]*\| (?P<postgres>[\d.]+) ms \|[^|]*\|[^|]*\| (?P<wal>[\d.]+) kB \|"
    r" worker (?P<worker>[\d.]+) ms, control (?P<control>[\d.]+) ms \|$",
    re.MULTILINE,
)
OF_A_REPLICA = 4  # sessions beside those of attempts (config/resumed.toml)
LOADED = Fraction(1, 2)  # of what was measured at full load, a plan takes this much


@dataclass(frozen=True)
class Costs:
    """What an attempt on an empty graph costs, as docs/performance.md has it: milliseconds of CPU, kB of WAL."""

    rate: Fraction
    postgres: Fraction
    wal: Fraction
    worker: Fraction
    control: Fraction


@dataclass(frozen=True)
class Load:
    """How many attempts begin in a second, how long one takes, and how a replica is set."""

    name: str
    rate: Fraction
    seconds: Fraction
    concurrency: int = 16
    processes: int = 1


@dataclass(frozen=True)
class Size:
    """What a load takes; WAL in kB a second."""

    in_flight: int
    replicas: int
    sessions: int
    postgres_cores: Fraction
    replica_cores: Fraction
    wal: Fraction


@dataclass(frozen=True)
class Server:
    """What a Postgres server has to give."""

    sessions: int = 400
    cores: int = 8


LOADS = [
    Load("a deploy a day stops 200 agents of five minutes", Fraction(200, 300), Fraction(300)),
    Load("the same, 64 at once", Fraction(200, 300), Fraction(300), concurrency=64),
    Load("everything through `submit`: one agent a second, one minute", Fraction(1), Fraction(60)),
    Load("ten agents a second, one minute, 64 at once", Fraction(10), Fraction(60), concurrency=64),
    Load("fifty short graphs a second, half a second", Fraction(50), Fraction(1, 2)),
    Load("four hundred a second, a tenth of a second", Fraction(400), Fraction(1, 10)),
]


def costs() -> Costs:
    """Read what was measured."""
    found = _ROW.search(PERFORMANCE.read_text())
    if found is None:
        raise AssertionError("docs/performance.md has no row of a replica with one worker")
    return Costs(**{name: Fraction(value) for name, value in found.groupdict().items()})


def size(load: Load, cost: Costs) -> Size:
    """Apply the formulas of docs/scaling.md."""
    in_flight = math.ceil(load.rate * load.seconds)
    by_slots = Fraction(in_flight, load.concurrency * load.processes)
    by_cpu = load.rate / (cost.rate * LOADED * load.processes)
    replicas = max(1, math.ceil(by_slots), math.ceil(by_cpu))
    return Size(
        in_flight=in_flight,
        replicas=replicas,
        sessions=replicas * (load.processes * load.concurrency + OF_A_REPLICA),
        postgres_cores=load.rate * cost.postgres / 1000 / LOADED,
        replica_cores=load.rate * (cost.worker + cost.control) / 1000 / LOADED,
        wal=load.rate * cost.wal,
    )


def first_to_break(needed: Size, server: Server) -> str:
    """Name what of the server is taken most, and how much of it."""
    shares = {
        "connections": Fraction(needed.sessions, server.sessions),
        "Postgres' CPU": needed.postgres_cores / server.cores,
    }
    name = max(shares, key=lambda one: shares[one])
    return f"{name}, {math.ceil(shares[name] * 100)} %"


def rows() -> list[tuple[str, ...]]:
    """Return the table, a row a load."""
    cost = costs()
    return [
        (
            load.name, str(needed.in_flight), str(needed.replicas), str(needed.sessions),
            f"{float(needed.postgres_cores):.2f}", f"{float(needed.replica_cores):.2f}",
            f"{float(needed.wal):.0f} kB/s",
            first_to_break(needed, Server()),
        )
        for load in LOADS
        for needed in [size(load, cost)]
    ]  # fmt: skip
