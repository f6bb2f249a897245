"""The crash points under other versions of LangGraph, and over rows that older ones wrote: `make compat`.

`make test` does not collect it: pip installs each version into an environment of its own, which goes with the run.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from acceptance import test_crash_points as crash
from support.bench import GRAPHS, Bench
from support.command import run_process
from support.databases import outliving_sessions

ROOT = Path(__file__).parents[2]
KILLER = Path(__file__).parent / "some.py"
PATIENCE = 1800.0
SETUP = """
import sys
from langgraph.checkpoint.postgres import PostgresSaver
with PostgresSaver.from_conn_string(sys.argv[1]) as saver:
    saver.setup()
"""
NAMES = ("langgraph", "langgraph-checkpoint", "langgraph-checkpoint-postgres")
VERSIONS = f"from importlib.metadata import version; print(' / '.join(map(version, {NAMES})))"
# The first is the oldest of everything that pyproject.toml allows, the last whatever is newest.
OWN = [
    ["langgraph==1.2.0", "langgraph-checkpoint==4.3.0", "langgraph-checkpoint-postgres==3.2.0"],
    ["langgraph==1.2.6", "langgraph-checkpoint-postgres==3.2.0"],
    ["langgraph==1.2.14", "langgraph-checkpoint-postgres==3.2.0"],
    ["langgraph", "langgraph-checkpoint-postgres"],
]
OLDER = [
    ["langgraph==1.1.10", "langgraph-checkpoint-postgres==3.0.5", "psycopg[binary]"],
    ["langgraph==1.0.10", "langgraph-checkpoint-postgres==3.0.5", "psycopg[binary]"],
    ["langgraph==0.6.11", "langgraph-checkpoint-postgres==2.0.25", "psycopg[binary]"],
]
# Error handlers of nodes came with 1.2; until 1.2.14 at least, one beside a sibling does not hear of the error.
UNHANDLED = ("handled", "handled_by_goto")
DEAF = ("handled",)
Install = Callable[..., Path]


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Make an environment with these requirements, each once; gives its folder of commands."""

    @cache
    def made(*requirements: str) -> Path:
        place = tmp_path_factory.mktemp("environment")
        call([sys.executable, "-m", "venv", str(place)])
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        call([*pip, *requirements])
        return place / "bin"

    return made


def call(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def versions(commands: Path) -> str:
    return call([str(commands / "python"), "-c", VERSIONS]).strip()


def killed(bench: Bench, writer: Path, left_out: tuple[str, ...]) -> dict[str, Any]:
    """Have the writer make its tables, run its flows and be killed; gives for each series how often, of how many."""
    environment = {**bench.environment([]), "PYTHONPATH": str(GRAPHS)}
    call([str(writer / "python"), "-c", SETUP, bench.dsn], environment)
    python = [str(writer / "python"), str(KILLER), ",".join(left_out)]
    with outliving_sessions(bench.dsn) as named:
        lines = call([*python, bench.dsn, "2", str(crash.SHARE)], {**environment, **named})
    return {name: told for line in lines.splitlines() for name, told in json.loads(line).items()}


def judged_and_finished(bench: Bench, points: dict[str, Any], said: str) -> None:
    """Have the daemon judge and finish what was killed; prints a line of the table in docs/reliability.md."""
    sys.path.insert(0, str(GRAPHS))
    from points.flows import FLOWS  # noqa: PLC0415 - found only now

    entries = [f"{name}=points.registered:FLOWS.{name}" for name in FLOWS]
    settings: Any = {"PYTHONPATH": os.pathsep.join([str(GRAPHS), bench.registry(entries)])}
    done = crash.resumed(bench, "migrate", **settings)
    assert done.returncode == 0, done.stderr
    threads = crash.recorded(bench)
    scanned = {one["thread_id"]: one for one in crash.scan(bench, **settings)}
    misjudged = {name: one for name in threads if (one := wrong(threads[name], scanned.get(name)))}
    misjudged |= {name: "no thread to resume, and named" for name in scanned if name not in threads}
    before = crash.stored(bench)
    crash.resumed(bench, "once", "--wait", **settings, RESUMED_PROCESSES="2")
    after = crash.stored(bench)
    due = [name for name, one in threads.items() if not one.finished and one.exception is None]
    states = crash.states(bench, sorted(threads))
    lost = {name: states[name] for name in due if states[name] != threads[name].state}
    touched = [name for name in before if name not in due and before[name] != after[name]]
    attempts = bench.rows("select thread_id, outcome from resumed.attempts")
    figures = (sum(one[0] for one in points.values()), len(threads), len(threads) - len(misjudged), len(due))
    print("\n|", " | ".join([said, *map(str, figures), str(len(due) - len(lost))]), "|")
    assert misjudged == {}
    assert lost == {}
    assert touched == []
    assert sorted((row["thread_id"], row["outcome"]) for row in attempts) == [
        (name, "finished") for name in sorted(due)
    ]


def wrong(left: crash.Left, found: dict[str, Any] | None) -> str | None:
    """Say what is wrong with the verdict on a thread."""
    if left.finished:
        return None if found is None else f"finished, and named {found['verdict']}"
    if found is None:
        return "unfinished, and not named"
    right = (crash.EXCEPTIONS[left.exception],) if left.exception else crash.UNFINISHED
    return None if found["verdict"] in right else f"{found['verdict']}: {found['reason']}"


@pytest.fixture
def bench(bare_database: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(bare_database, tmp_path)
    yield made
    made.end()


@pytest.mark.parametrize("requirements", OWN, ids=lambda one: one[0])
def test_every_crash_point_under_one_version(
    bench: Bench, install: Install, requirements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = install(*requirements, str(ROOT))
    left_out = () if requirements is OWN[-1] else DEAF
    monkeypatch.setattr(crash, "run_here", partial(run_process, command=commands / "resumed", patience=1200))
    judged_and_finished(bench, killed(bench, commands, left_out), versions(commands))


@pytest.mark.parametrize("requirements", OLDER, ids=lambda one: one[0])
def test_rows_of_an_older_version_are_judged_and_finished_by_the_installed_one(
    bench: Bench, install: Install, requirements: list[str]
) -> None:
    writer = install(*requirements)
    judge = versions(Path(sys.executable).parent)
    judged_and_finished(bench, killed(bench, writer, UNHANDLED), f"{versions(writer)}, then {judge}")
