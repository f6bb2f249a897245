"""Traces over the whole way: applications that trace, daemons, deaths, and a collector that parses what it is sent."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from acceptance.test_neighbours import run_again
from resumed.library.executor import AsyncWorkflowExecutor
from support.bench import Bench
from support.collector import Collector, Span, collector
from support.daemon import Daemon
from support.waiting import eventually

BLOCKED = "import sys\nsys.modules['opentelemetry.sdk'] = None\n"


@pytest.fixture
def collecting() -> Iterator[Collector]:
    with collector() as made:
        yield made


def killed_application(bench: Bench, *names: str) -> dict[str, tuple[str, str]]:
    """Kill an application in its first nodes; gives the trace and the span that each thread ran in."""
    place = bench.folder / "application-traces"
    application = bench.executed(1, *names, ZOO_DELAY="600", ZOO_TRACE=str(place))
    eventually(lambda: len(bench.effects("start")) == len(names) or application.poll() is not None)
    assert application.poll() is None
    application.kill()
    application.wait()
    return {thread: (trace, span) for thread, trace, span in map(str.split, place.read_text().splitlines())}


def submit(bench: Bench, workflow: str, thread: str, given: Any) -> None:
    async def submitted() -> None:
        async with AsyncWorkflowExecutor(bench.dsn) as executor:
            await executor.submit(workflow, given, thread_id=thread)

    asyncio.run(submitted())


def running(bench: Bench, daemon: Daemon, attempt: int) -> dict[str, Any]:
    """Wait until a node of this attempt runs, and give the line of its start."""
    eventually(lambda: any(line["attempt"] == attempt for line in bench.effects("start")))
    # The control process may log what its worker reports later than the node begins.
    [line] = eventually(lambda: [line for line in daemon.lines("attempt.started") if line["attempt"] == attempt])
    return line


def ids(line: dict[str, Any]) -> tuple[str, str]:
    return line["trace_id"], line["span_id"]


def test_every_attempt_is_one_span_whoever_closes_it(bench: Bench, collecting: Collector) -> None:
    traced = killed_application(bench, "linear")
    soon = "stop_grace=200ms,thread_grace=200ms,stuck_grace=200ms"
    settings = collecting.settings(ZOO_DELAY="600", RESUMED_SHUTDOWN_GRACE="0s", RESUMED_TEST_TIMINGS=soon)
    only = ["linear"]

    # A worker is killed, and its own control process closes the attempt.
    first = bench.daemon(only, **settings).until_ready()
    started = [running(bench, first, 1)]
    os.kill(first.workers()[0], signal.SIGKILL)
    # The whole replica is killed, and another one closes the attempt.
    started.append(running(bench, first, 2))
    second = bench.daemon(only, **settings).until_ready()
    first.kill()
    started.append(running(bench, second, 3))
    # A deploy.
    assert second.terminate() == 0
    # Another writer.
    third = bench.daemon(only, **settings | {"ZOO_DELAY": "2"}).until_ready()
    started.append(running(bench, third, 4))
    run_again(bench, "linear_0")
    eventually(lambda: bench.all_closed(1))
    assert third.terminate() == 0

    found = collecting.of("linear_0")
    outcomes = ["crashed", "crashed", "drained", "superseded"]
    assert [span.attributes["resumed.outcome"] for span in found] == outcomes
    assert [(span.trace_id, span.span_id) for span in found] == [ids(line) for line in started]
    assert [span.error for span in found] == [True, True, False, False]
    assert [span.attributes.get("error.type") for span in found] == ["crashed", "crashed", None, None]
    for number, span in enumerate(found):
        assert (span.parent, span.name) == ("", "resume linear")
        assert span.links[0] == (*traced["linear_0"], "application")
        before = found[number - 1]
        assert span.links[1:] == ([(before.trace_id, before.span_id, "previous_attempt")] if number else [])
        assert span.attributes["gen_ai.conversation.id"] == "linear_0"
        assert span.resource["service.name"] == "resumed"
    assert_spans_are_rows(bench, found)
    for daemon in (second, third):
        for line in daemon.lines("attempt.finished"):
            assert ids(line) in [(span.trace_id, span.span_id) for span in collecting.spans]


def assert_spans_are_rows(bench: Bench, spans: list[Span]) -> None:
    """Each attempt on record has one span, with the start and the end of its row."""
    rows = bench.rows(
        """
        select thread_id, attempt, (extract(epoch from started_at) * 1000000)::bigint as started,
            (extract(epoch from finished_at) * 1000000)::bigint as ended from resumed.attempts order by 1, 2
        """
    )
    assert [(row["thread_id"], row["attempt"]) for row in rows] == [
        (span.attributes["session.id"], span.attributes["resumed.attempt"]) for span in spans
    ]
    assert [(row["started"] * 1000, row["ended"] * 1000) for row in rows] == [(span.start, span.end) for span in spans]


def test_a_wait_for_a_person_is_no_error_and_an_errors_message_is_told_only_where_it_is_logged(
    bench: Bench, collecting: Collector
) -> None:
    traced = killed_application(bench, "asking", "fragile")
    broken = bench.folder / "broken"
    broken.touch()
    settings = collecting.settings(ZOO_BREAK=str(broken), RESUMED_MAX_ATTEMPTS="1")
    daemon = bench.daemon(["asking", "fragile"], RESUMED_LOG_ERRORS="false", **settings)
    eventually(lambda: bench.one("select count(*) from resumed.attempts where finished_at is not null") == 2)
    eventually(lambda: len(collecting.spans) == 2)  # without a shutdown
    assert daemon.terminate() == 0
    (asking,), (fragile,) = collecting.of("asking_0"), collecting.of("fragile_0")
    assert (asking.attributes["resumed.outcome"], asking.error) == ("waiting", False)
    assert (fragile.attributes["error.type"], fragile.error, fragile.message) == ("RuntimeError", True, "")
    assert [span.links for span in (asking, fragile)] == [
        [(*traced[thread], "application")] for thread in ("asking_0", "fragile_0")
    ]
    assert not [span for span in collecting.spans if "hunter2" in str(span) or "fragile node" in str(span)]


def test_what_nodes_trace_goes_under_the_span_of_their_attempt_where_that_is_asked_for(
    bench: Bench, collecting: Collector
) -> None:
    workflows = ["telling=traced.graphs:telling", "telling_sync=traced.graphs:telling_sync"]
    submit(bench, "telling", "nested", {"told": ""})
    submit(bench, "telling_sync", "nested in invoke", {"told": ""})
    daemon = bench.daemon(workflows, **collecting.settings(RESUMED_TRACE_NEST="true"))
    eventually(lambda: bench.all_closed(2))
    assert daemon.terminate() == 0
    submit(bench, "telling", "apart", {"told": ""})
    other = bench.daemon(workflows, **collecting.settings())
    eventually(lambda: bench.all_closed(3))
    assert other.terminate() == 0
    told = {(line["thread"], line["node"]): line for line in bench.effects("span")}
    for thread, node in (("nested", "in_a_thread"), ("nested", "on_the_loop"), ("nested in invoke", "in_a_thread")):
        (span,) = collecting.of(thread)
        assert ids(told[thread, node]) == (span.trace_id, span.span_id)
        assert told[thread, node]["sampled"]
    assert {int(told["apart", node]["span_id"], 16) for node in ("in_a_thread", "on_the_loop")} == {0}


def test_a_collector_that_is_away_costs_one_warning(bench: Bench) -> None:
    with collector() as away:
        settings = away.settings()
    daemon = bench.daemon(["linear"], **settings)
    submit(bench, "linear", "first", {"seen": []})
    (failed,) = eventually(lambda: daemon.lines("trace_export.failed"))
    assert bench.all_closed(1)
    assert failed["level"] == "warning"
    with collector(away.port) as back:
        back.refuse = True
        submit(bench, "linear", "second", {"seen": []})
        eventually(lambda: back.refused)
        back.refuse = False
        submit(bench, "linear", "third", {"seen": []})
        eventually(lambda: back.of("third"))
        (recovered,) = eventually(lambda: daemon.lines("trace_export.recovered"))
        assert (recovered["lost"], len(back.spans)) == (2, 1)
        back.hang = Event()
        submit(bench, "linear", "last", {"seen": []})
        eventually(lambda: bench.all_closed(4))
        assert daemon.terminate() == 0
    # It was away twice, the second time until the end.
    # A busy machine may have the scheduler warn of a late task beside it.
    ours = [line for line in daemon.lines() if not str(line.get("library", "")).startswith("apscheduler")]
    noticed = [line["event"] for line in ours if line["level"] in ("warning", "error")]
    assert noticed == ["trace_export.failed", "trace_export.failed"]


def test_traces_without_their_extra_are_one_sentence(bench: Bench, tmp_path: Path) -> None:
    place = tmp_path / "blocked"
    place.mkdir()
    place.joinpath("sitecustomize.py").write_text(BLOCKED)
    path = os.pathsep.join([str(place), bench.registry(["linear"])])
    for command in ("run", "once"):
        done = bench.resumed(command, process=True, PYTHONPATH=path, RESUMED_TRACES="true")
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            "resumed: RESUMED_TRACES=true needs OpenTelemetry: install resumed[otel], or set RESUMED_TRACES=false"
        ]
