"""Runs LangGraph's own tests as the judge of this tree: `python -m oracle /path/to/langgraph [file of tests …]`.

Nothing of LangGraph's repository is fetched or kept: its tests are copied into a folder that goes with the run, and run
against the installed LangGraph. What they need beside it, pip installs by name into `.venv/oracle`.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from pathlib import Path

from oracle import summary
from resumed.demo.postgres import PrivateServer

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv" / "oracle"
# Of what LangGraph's group `test` names, what its tests import; the rest is here already, or not for judging.
NEEDED = ("syrupy", "pytest-mock", "pytest-repeat", "pycryptodome", "redis", "langgraph-checkpoint-sqlite")
TESTS = (
    *("pregel", "pregel_async", "large_cases", "large_cases_async", "interruption", "interrupt_migration"),
    *("subgraph_persistence", "subgraph_persistence_async", "time_travel", "time_travel_async"),
    *("parent_command", "parent_command_async", "delta_channel_exit_mode", "delta_channel_update_state"),
    *("delta_channel_id_stability", "delta_channel_migration", "delta_channel_supersteps_bound", "retry", "runtime"),
    *("pydantic", "checkpoint_migration", "graph_callbacks", "messages_state", "serde_allowlist"),
)
PROCESSES = "2"


def main() -> int:
    """Run suite and conformance, print the table; 1 where anything is wrong or unexplained."""
    folder = Path(sys.argv[1]) / "libs" if len(sys.argv) > 1 else Path()
    theirs = folder / "langgraph"
    if not (theirs / "tests" / "conftest.py").is_file():
        print("name a checkout of the LangGraph repository: make oracle LANGGRAPH=/path/to/langgraph", file=sys.stderr)
        return 2
    python = environment(theirs)
    with (
        tempfile.TemporaryDirectory(prefix="oracle-") as place,
        PrivateServer(options=("autovacuum_naptime=5s",)) as server,
    ):
        suite, results = Path(place) / "suite", Path(place) / "results"
        results.mkdir()
        shutil.copytree(theirs / "tests", suite / "tests")
        shutil.copy(theirs / "pyproject.toml", suite)
        began = time.monotonic()
        run_suite(python, suite, (results, server.dsn()))
        run_conformance(python, folder / "checkpoint-conformance", (results, server.dsn()))
        return summary.printed(results, time.monotonic() - began)


def environment(theirs: Path) -> str:
    """Make the environment of the run: everything that is in ours, and on top what LangGraph's tests import."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        site = next((ENVIRONMENT / "lib").glob("python*/site-packages"))
        (site / "ours.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    group = tomllib.loads((theirs / "pyproject.toml").read_text())["dependency-groups"]["test"]
    named = [one for one in NEEDED if any(str(line).startswith(one) for line in group)]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *named]
    subprocess.run(pip, check=True)
    print("LangGraph's tests need, beside what is installed:", ", ".join(named), flush=True)
    return str(python)


def run_suite(python: str, suite: Path, place: tuple[Path, str]) -> None:
    """Run their tests with our plugin; whether they pass is not asked, only what came of the threads they made."""
    results, dsn = place
    chosen = sys.argv[2:] or [f"tests/test_{name}.py" for name in TESTS]
    files = [one for one in chosen if (suite / one.split("::")[0]).exists()]
    options = ["-p", "oracle.plugin", "-p", "no:asyncio", "-p", "no:cacheprovider", "-q", "--no-header", "-W", "ignore"]
    spread = ["-n", PROCESSES, "--dist", "worksteal", "--tb=no", "-r", "f"]
    settings = {"ORACLE_SERVER": dsn, "ORACLE_RESULTS": str(results), "PYTHONPATH": str(ROOT / "tests")}
    # Without -P the folder of the tests would come before the installed LangGraph.
    subprocess.run(
        [python, "-P", "-m", "pytest", *options, *spread, *files],
        cwd=suite, env=clean(settings), check=False,
    )  # fmt: skip


def run_conformance(python: str, suite: Path, place: tuple[Path, str]) -> None:
    """Run the conformance suite over our checkpointers, where the checkout has one."""
    results, dsn = place
    if not suite.is_dir():
        print("this checkout has no libs/checkpoint-conformance: not run")
        return
    with (results / "conformance.jsonl").open("w") as lines:
        done = subprocess.run(
            [python, "-P", "-m", "oracle.conformance", dsn], stdout=lines, check=False,
            env=clean({"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(suite)])}),
        )  # fmt: skip
        if done.returncode:
            lines.write('{"kind": "broken", "test": "conformance", "why": "it ended with an error, see above"}\n')


def clean(settings: dict[str, str]) -> dict[str, str]:
    """The environment of this process without settings of ours or of LangSmith's, and with these."""
    dropped = ("RESUMED_", "PG", "ORACLE_", "LANGSMITH", "LANGCHAIN")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "LANGSMITH_TRACING": "false", **settings}


if __name__ == "__main__":
    sys.exit(main())
