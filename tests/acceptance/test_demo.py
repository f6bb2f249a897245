"""`resumed demo` as a newcomer runs it: the whole story, twice at once, as anybody, interrupted and killed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
import rich

import resumed
from resumed.demo.tally import Tally
from support.command import COMMAND
from support.waiting import eventually

ROOT = Path(__file__).parents[2]
WORKFLOWS = ("orders", "documents", "invoices", "approvals")
NOBODY = 65534
PATIENCE = 120.0


@dataclass
class Player:
    """Runs the demo in a folder of its own, where the example application is found."""

    folder: Path
    example: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        packages = [self.example, Path(resumed.__file__).parents[1], Path(rich.__file__).parents[1]]
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("RESUMED_", "PG", "EXAMPLE_"))
        }
        return {**kept, "TMPDIR": str(self.folder), "PYTHONPATH": os.pathsep.join(map(str, packages)), "TERM": "xterm"}

    def start(self, *options: str, by: tuple[str, ...] = (sys.executable,)) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*by, str(COMMAND), "demo", *options], env=self.environment(), cwd=self.folder, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def application(self, *arguments: str, **settings: str) -> Any:
        """Run the application's own command; gives what it printed, as JSON where it printed any."""
        command = [sys.executable, "-P", "-m", "resumed_example", *arguments]
        environment = {**self.environment(), "EXAMPLE_DELAY": "0", **settings}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    def left(self) -> list[str]:
        """What is left of the demo: files, and processes that were started with this folder in their environment."""
        return [
            *(one.name for one in self.folder.iterdir()),
            *(str(one) for one in psutil.process_iter() if self._ours(one)),
        ]

    def _ours(self, process: psutil.Process) -> bool:
        try:
            told = process.environ().get("TMPDIR") == str(self.folder) or str(self.folder) in " ".join(
                process.cmdline()
            )
            return told and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid()
        except psutil.Error:
            return False


@pytest.fixture(scope="session")
def example() -> Iterator[Path]:
    """The example application, installed from its folder as `make demo` does, without the network."""
    place = Path(tempfile.mkdtemp(prefix="resumed test "))
    place.chmod(0o755)
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(place), str(ROOT / "examples" / "orders")],
        check=True, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    yield place
    shutil.rmtree(place)


@pytest.fixture
def player(example: Path) -> Iterator[Player]:
    """A folder whose path holds spaces, where the server's own user gets through."""
    folder = Path(tempfile.mkdtemp(prefix="resumed test of "))
    folder.chmod(0o777)
    made = Player(folder, example)
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()
    eventually(lambda: not made.left())
    shutil.rmtree(folder)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(process: subprocess.Popen[str], words: str) -> str:
    """Read what it says up to the line with these words."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if words in line:
            return said
    assert process.stderr is not None
    return pytest.fail(f"it ended before it said {words!r}: {said}{process.stderr.read()}")


@cache
def ordinary() -> tuple[str, ...] | None:
    """How an ordinary user runs Python: as ourselves, or with what root has set down where all can reach it."""
    if os.geteuid() != 0:
        return (sys.executable,)
    # Through `env`: setpriv itself still has root's right to pass, Python's own children would not.
    drop = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env")
    wanted = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        tried = [*drop, python, "-c", wanted]
        if shutil.which(drop[0]) and subprocess.run(tried, stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return (*drop, python)
    return None


def told_whole(told: str) -> bool:
    """Check what everybody is told who sees it to its end."""
    rows = [line for line in told.splitlines() if re.match(r"(orders|documents|invoices|approvals)_\d\d ", line)]
    assert len(rows) == 40
    assert all("waiting" in row for row in rows if row.startswith("approvals"))
    assert any("waiting, untouched" in row for row in rows)
    assert any(re.search(r" stopped +finished +\d+\.\d s$", row) for row in rows if row.startswith("documents"))
    assert re.search(r"[1-9]\d* ran twice", told)
    return "30 of 40 threads are finished, each with the state of an undisturbed run; 10 wait for a person." in told


def test_the_whole_story_is_told_to_its_end(player: Player) -> None:
    told, complaints = player.start().communicate(timeout=PATIENCE)
    assert complaints == ""
    assert told_whole(told)
    assert player.left() == []


@pytest.mark.thorough
def test_twice_at_once_with_a_path_that_holds_spaces_one_kept_by_an_ordinary_user(player: Player) -> None:
    ours, kept = player.start(), player.start("--keep", by=ordinary() or (sys.executable,))
    told, complaints = ours.communicate(timeout=PATIENCE)
    assert (ours.returncode, complaints) == (0, ""), told + complaints
    assert told_whole(told)
    assert "\x1b" not in told
    said = until(kept, "Ctrl-C stops everything")
    assert told_whole(said)
    held = asked(player, said)
    assert "approvals_40" in held
    assert {verdict for thread, verdict in held.items() if thread != "approvals_04"} == {"waiting"}
    started = family(kept)
    os.killpg(kept.pid, signal.SIGINT)
    kept.communicate(timeout=PATIENCE)
    assert kept.returncode == 0
    assert [one for one in started if lives(one)] == []
    assert player.left() == []


def asked(player: Player, said: str) -> dict[str, str]:
    """Do what `--keep` says: take its settings into a shell, answer a question, list the cases; gives verdicts."""
    settings = re.findall(r"^ +\. (.+)$", said, re.MULTILINE)[0]
    answer = re.findall(r"^ +(.+ answer .+ yes)$", said, re.MULTILINE)[0]
    done = subprocess.run(
        ["sh", "-ec", f'. {settings}; {answer}; exec "$0" "$1" threads --json', sys.executable, str(COMMAND)],
        env=player.environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {one["thread_id"]: one["verdict"] for one in json.loads(done.stdout)["threads"]}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        pytest.param(signal.SIGINT, "An application begins", id="Ctrl-C while the application runs"),
        pytest.param(signal.SIGKILL, "A private Postgres", id="SIGKILL while the server starts"),
        *(
            pytest.param(signal.SIGKILL, words, id=f"SIGKILL while {when}", marks=pytest.mark.thorough)
            for words, when in (
                ("An application begins", "the application runs"),
                ("-> finished", "the daemon resumes"),
            )
        ),
    ],
)
def test_however_it_ends_no_process_and_no_file_is_left(player: Player, number: signal.Signals, words: str) -> None:
    process = player.start()
    until(process, words)
    started = family(process)
    assert started
    os.killpg(process.pid, number)
    assert process.wait(PATIENCE) == (130 if number == signal.SIGINT else -number)
    eventually(lambda: not [one for one in started if lives(one)])
    eventually(lambda: not player.left())


def test_without_the_example_it_says_in_a_sentence_what_to_install(player: Player, tmp_path: Path) -> None:
    nothing = tmp_path / "resumed_example_orders-0.dist-info"
    nothing.mkdir()
    nothing.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: resumed-example-orders\nVersion: 0\n")
    player.example = tmp_path
    process = player.start()
    told, complaints = process.communicate(timeout=PATIENCE)
    assert (process.returncode, told) == (2, "")
    assert re.fullmatch(r"resumed: .*make demo.*examples/orders.*\n", complaints)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_a_folder_that_the_servers_user_cannot_enter_is_named(player: Player) -> None:
    player.folder.chmod(0o700)
    process = player.start()
    _, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert re.fullmatch(r"resumed: .*nobody.*TMPDIR.*\n", complaints)
    assert str(player.folder) in complaints


@pytest.mark.thorough
def test_the_example_ends_the_same_way_every_time(player: Player) -> None:
    first, second = (player.application("undisturbed", "--threads", "8") for _ in range(2))
    assert Counter(one.partition("_")[0] for one in first) == dict.fromkeys(WORKFLOWS, 2)
    for thread_id, state in first.items():
        assert {**state, "head": ""} == {**second[thread_id], "head": ""}
        asks = thread_id.startswith("approvals")
        assert (state["next"], bool(state["questions"])) == ((["ask"], True) if asks else ([], False))


@pytest.mark.thorough
def test_the_example_runs_on_postgres_and_leaves_two_lines_a_node(
    player: Player, langgraph_database: str, tmp_path: Path
) -> None:
    effects, database = tmp_path / "effects", ("--dsn", langgraph_database)
    player.application("run", *database, "--threads", "4", EXAMPLE_EFFECTS=str(effects))
    player.application("answer", *database, "approvals_04", "yes", EXAMPLE_EFFECTS=str(effects))
    lines = [json.loads(line) for line in effects.read_text().splitlines()]
    counted = Counter((one["thread"], one["node"], one["edge"]) for one in lines)
    assert set(counted.values()) == {1}
    assert {key[:2] for key in counted if key[2] == "start"} == {key[:2] for key in counted if key[2] == "end"}
    states = player.application("states", *database, "--threads", "4")
    assert all(state["next"] == [] for state in states.values())
    assert states["approvals_04"]["values"]["result"] == "paid 40"
    assert states["orders_01"]["values"] == player.application("undisturbed", "--threads", "1")["orders_01"]["values"]


EXPECTED = {
    "orders_01": {"head": "", "next": [], "questions": [], "values": {"n": 1}},
    "approvals_04": {"head": "", "next": ["ask"], "questions": ["pay?"], "values": {"n": 4}},
}


def stand(thread_id: str, **changes: Any) -> dict[str, Any]:
    return {thread_id: {**EXPECTED[thread_id], "head": "before", **changes}}


@pytest.mark.parametrize(
    ("order", "approval", "said"),
    [
        (stand("orders_01", head="after"), stand("approvals_04"), []),
        (stand("orders_01", head="after"), {}, ["approvals_04: it has no checkpoint"]),
        (stand("orders_01", next=["ship"]), stand("approvals_04"), ["orders_01: it stands at ship, not resumed"]),
        (
            stand("orders_01", values={}),
            stand("approvals_04"),
            ["orders_01: its state is not that of an undisturbed run"],
        ),
        (
            stand("orders_01"),
            stand("approvals_04", head="after"),
            ["approvals_04: it was waiting and has been touched"],
        ),
        (
            stand("orders_01"),
            stand("approvals_04", next=[], questions=[]),
            ["approvals_04: it stands at its end, waiting, untouched"],
        ),
    ],
)
def test_what_is_not_as_undisturbed_is_said(order: dict[str, Any], approval: dict[str, Any], said: list[str]) -> None:
    tally = Tally(EXPECTED)
    tally.record_stops({**stand("orders_01", next=["charge"]), **stand("approvals_04")})
    tally.record_verdicts(
        [{"thread_id": "orders_01", "verdict": "stopped"}, {"thread_id": "approvals_04", "verdict": "waiting"}]
    )
    assert tally.find_faults({**order, **approval}) == said
