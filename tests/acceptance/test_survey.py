"""The command `survey` beside `scan`: what rows tell is the same, and no graph and no LangGraph is needed for it."""

import subprocess
import sys
import textwrap
import tomllib
from collections import Counter

from support.bench import Bench

STATUS = {"failed": "failed", "stopped": "stopped", "waiting": "waiting"}
LOADED = """
import sys
sys.argv = ["resumed", "survey", "--json"]
from resumed.cli.app import app
try:
    app()
except SystemExit as ended:
    assert not ended.code, ended.code
loaded = [name for name in sys.modules if name.split(".")[0] in ("langgraph", "langchain_core", "langsmith")]
assert not loaded, loaded
"""


def test_survey_counts_what_scan_judges_with_graphs_and_reads_no_more(bench: Bench) -> None:
    bench.application(2, "linear", "asking", ZOO_DELAY="0.01").wait(30)
    bench.crashed_application(3, "alinear", "fan", ends=len(bench.effects("end")) + 6, ZOO_DELAY="0.3")
    scanned = Counter(
        (one["thread_id"].rpartition("_")[0], STATUS[one["verdict"]]) for one in bench.ask("scan")["threads"]
    )
    told = bench.ask("survey", workflows=[])
    assert set(told) == {"groups", "tables", "sampled"}
    counted = {
        (one["group"], status): one[status] for one in told["groups"] for status in STATUS.values() if one[status]
    }
    assert counted == dict(scanned)
    assert sum(one["finished"] for one in told["groups"]) == 2
    assert sum(one["threads"] for one in told["groups"]) == 10


def test_survey_says_what_it_would_take_to_have_the_dead_resumed(bench: Bench) -> None:
    bench.crashed_application(3, "alinear", ends=3, ZOO_DELAY="0.3")
    bench.execute("drop schema resumed cascade")
    done = bench.resumed("survey", workflows=[])
    assert done.returncode == 0, done.stderr
    assert "reads every thread" in done.stderr
    for said in ("alinear", "resumed.workflows", "RESUMED_MIN_AGE=5m", "resumed migrate", "new threads"):
        assert said in done.stdout
    assert bench.resumed("survey", "--since", "soon").returncode == 2
    assert bench.resumed("survey", RESUMED_DATABASE_URL="postgresql://127.0.0.1:1/nobody").returncode == 3


def test_what_survey_says_to_register_can_be_written_into_a_pyproject(bench: Bench) -> None:
    bench.crashed_application(1, "alinear", ends=1, ZOO_DELAY="0.3")
    for name in ("eu.shop-1", "7 up", "'; drop table x=", "a\nb"):
        bench.execute(
            "insert into checkpoints select %(thread)s, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type,"
            " checkpoint, metadata from checkpoints where thread_id = 'alinear_0'",
            thread=f"{name}_0",
        )
    told = bench.resumed("survey", workflows=[]).stdout
    advice = told[told.index("    [project") :].partition("\n\n")[0]
    written = tomllib.loads(textwrap.dedent(advice))["project"]["entry-points"]["resumed.workflows"]
    assert written == {"alinear": "your_package.graphs:alinear", "eu.shop": "your_package.graphs:eu_shop"}


def test_survey_loads_no_langgraph(bench: Bench) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        env=bench.environment([]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
