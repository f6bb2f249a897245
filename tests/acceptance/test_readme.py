"""The README tells people what to do: every block of it is done here, as it stands."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from support.bench import Bench
from support.command import COMMAND
from support.daemon import Daemon
from support.waiting import eventually

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [body for language, body in BLOCKS if language == kind]


def commands(starting: str) -> list[list[str]]:
    lines = [line.partition("#")[0].split() for body in blocks("sh") for line in body.splitlines()]
    return [words for words in lines if words and words[0] == starting]


@dataclass
class Shop:
    """The project that the README's reader has made: its module, its entry point, its database."""

    bench: Bench
    folder: Path

    def environment(self) -> dict[str, str]:
        plain = self.bench.environment(workflows=[])
        return {**plain, "PYTHONPATH": str(self.folder), "RESUMED_MIN_AGE": "0s"}

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, env=self.environment(), cwd=self.folder, capture_output=True, text=True, timeout=90, check=False
        )


@pytest.fixture
def shop(bench: Bench, bare_database: str) -> Shop:
    bench.dsn = bare_database
    folder = bench.folder / "project"
    package = folder / "shop"
    package.mkdir(parents=True)
    graphs, application, runs = blocks("python")
    package.joinpath("__init__.py").write_text("")
    package.joinpath("graphs.py").write_text(graphs)
    folder.joinpath("application.py").write_text(application)
    folder.joinpath("runs.py").write_text(runs)
    section, entry = blocks("toml")[0].splitlines()
    group = re.fullmatch(r'\[project\.entry-points\."(.+)"\]', section)
    assert group is not None
    info = folder / "shop-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text(f"[{group[1]}]\n{entry.replace(chr(34), '')}\n")
    return Shop(bench, folder)


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    assert {language for language, _ in BLOCKS} == {"sh", "text", "python", "toml", "yaml"}
    assert re.findall(r"^ {4}(?:\$ |resumed |make )", TEXT, re.MULTILINE) == []


def test_the_make_targets_are_there() -> None:
    for words in commands("make"):
        assert subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, check=False).returncode == 0, words


def test_the_project_of_the_reader_runs_and_every_command_does_what_it_says(shop: Shop) -> None:
    done = shop.run(sys.executable, "application.py")
    assert done.returncode == 0, done.stderr
    told = commands("resumed")
    assert [words[1] for words in told] == ["migrate", "doctor", "workflows", "scan", "once", "run"]
    for words in told[:-1]:
        done = shop.run(str(COMMAND), *words[1:])
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert "orders" in shop.run(str(COMMAND), "workflows").stdout
    log = shop.folder / "daemon.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen([str(COMMAND), "run"], env=shop.environment(), cwd=shop.folder, stderr=stderr)
    shop.bench.processes.append(process)
    daemon = Daemon(process, log).until_ready()
    assert daemon.terminate() == 0


def test_a_thread_of_the_reader_that_died_is_finished(shop: Shop) -> None:
    dying = "import os\nfrom shop.graphs import builder\n"
    dying += "builder.nodes['ship'].runnable.func = lambda _: os._exit(9)\n"
    application = shop.folder / "dying.py"
    application.write_text(dying + blocks("python")[1])
    assert shop.run(sys.executable, "dying.py").returncode == 9
    assert shop.run(str(COMMAND), "migrate").returncode == 0
    done = shop.run(str(COMMAND), "once", "--wait")
    assert done.returncode == 0, done.stderr
    eventually(lambda: shop.bench.all_closed(1))
    assert shop.bench.one("select outcome from resumed.attempts") == "finished"


def test_a_run_of_the_reader_is_on_record_and_a_submitted_one_is_begun(shop: Shop) -> None:
    assert shop.run(sys.executable, "application.py").returncode == 0
    assert shop.run(str(COMMAND), "migrate").returncode == 0
    done = shop.run(sys.executable, "runs.py")
    assert done.returncode == 0, done.stderr
    assert shop.run(str(COMMAND), "once", "--wait").returncode == 0
    states = shop.bench.rows("select thread_id, state from resumed.runs order by 1")
    assert [tuple(row.values()) for row in states] == [("order-4712", "finished"), ("order-4713", "finished")]


def test_the_sidecar_is_that_of_the_overlay() -> None:
    (container,) = [one for one in yaml.safe_load(blocks("yaml")[0])["containers"] if one["name"] == "resumed"]
    overlay = yaml.safe_load((ROOT / "deploy/kubernetes/overlays/sidecar/sidecar.yaml").read_text())
    (real,) = overlay["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["command"]) == (real["image"], real["command"])
    assert "readinessProbe" not in real
    assert [one["name"] for one in container["env"]] == [one["name"] for one in real["env"]][:1]


def test_the_picture_of_the_demo_has_its_columns_and_its_sentences() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src" / "resumed" / "demo").glob("*.py"))
    (picture,) = blocks("text")
    for column in ("thread", "workflow", "stopped at", "verdict", "outcome", "how long"):
        assert column in picture.splitlines()[0]
        assert f'"{column}"' in source
    for words in ("ran twice", "Execution is at least once", "wait for a person", "waiting, untouched"):
        assert words in picture
        assert words in source


def test_what_it_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
    assert shutil.which("make") is not None
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
