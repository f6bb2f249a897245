"""The span of an attempt: its ids, what it tells and does not tell, and what becomes of too many."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from resumed.errors import SettingsError
from resumed.model import Attempt, Outcome
from resumed.observability.events import Events, configure
from resumed.observability.otel import OtlpExport
from resumed.observability.traces import MOST_WAITING, AttemptSpan, Traces, build_span, span_ids
from resumed.rows import AttemptOrigin
from support.collector import PACE, Collector, collector

AT = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
ENDED = Attempt(
    "t", 2, "orders", "7", "host-1-0", AT, AT + timedelta(seconds=3), Outcome.FAILED, advanced=True, before="a",
    after="b", error_type="ValueError", error_at="nodes.py:3", error="no such order", closed_by="host-1-0",
)  # fmt: skip
ORIGIN = AttemptOrigin(f"00-{5:032x}-{6:016x}-01", "shop=1", AT - timedelta(minutes=1))


class Kept:
    def __init__(self) -> None:
        self.spans: list[AttemptSpan] = []

    def emit(self, span: AttemptSpan) -> None:
        self.spans.append(span)

    def close(self) -> None:
        return


@pytest.fixture
def collecting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collector() as made:
        for name, value in made.settings().items():
            monkeypatch.setenv(name, value)
        yield made


def export() -> OtlpExport:
    return OtlpExport("host-1", lambda _: None, lambda _: None)


def test_the_ids_are_the_attempts_own_and_the_same_for_every_closer() -> None:
    ids = span_ids("t", 2, AT)
    assert ids == span_ids("t", 2, AT.astimezone(timezone(timedelta(hours=2))))
    # Two releases in one deploy derive them alike.
    assert ids.to_fields() == {"trace_id": "d0d9a22d342a1a3b1e2315e15d1b0101", "span_id": "35a7292c2d098985"}
    others = [span_ids("t", 3, AT), span_ids("u", 2, AT), span_ids("t", 2, AT + timedelta(microseconds=1))]
    assert len({ids, *others}) == 4
    assert span_ids("a\udc80\n\0", 1, AT).span_id


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_what_is_wrong_with_the_thread_is_an_error(outcome: Outcome) -> None:
    span = build_span(replace(ENDED, outcome=outcome, error_type=None), None, log_errors=True)
    wrong = {"failed", "timed_out", "crashed", "no_progress", "incompatible"}
    assert span.is_error == (outcome in wrong)
    assert span.attributes.get("error.type") == (outcome if span.is_error else None)


def test_an_errors_message_is_told_only_where_it_is_logged() -> None:
    assert build_span(ENDED, None, log_errors=True).description == "no such order"
    silent = build_span(ENDED, None, log_errors=False)
    assert "no such order" not in str(silent)
    assert silent.attributes["error.type"] == "ValueError"


def test_a_clock_that_was_set_back_gives_no_span_that_ends_before_it_starts() -> None:
    span = build_span(replace(ENDED, finished_at=AT - timedelta(hours=1)), None, log_errors=True)
    assert span.started_ns == span.ended_ns == 1777636800123456000


def test_a_span_is_exported_with_its_links_under_the_names_of_the_conventions(collecting: Collector) -> None:
    made = export()
    made.emit(build_span(ENDED, ORIGIN, log_errors=True))
    made.close()
    (span,) = collecting.spans
    ids = span_ids("t", 2, AT).to_fields()
    assert (span.trace_id, span.span_id, span.parent) == (ids["trace_id"], ids["span_id"], "")
    assert (span.name, span.error, span.message) == ("resume orders", True, "no such order")
    assert span.end - span.start == 3 * 10**9
    before = span_ids("t", 1, AT - timedelta(minutes=1)).to_fields()
    assert span.links == [
        (f"{5:032x}", f"{6:016x}", "application"),
        (before["trace_id"], before["span_id"], "previous_attempt"),
    ]
    assert span.attributes == {
        "messaging.system": "resumed",
        "messaging.operation.name": "resume",
        "messaging.operation.type": "process",
        "messaging.destination.name": "orders",
        "messaging.message.conversation_id": "t",
        "messaging.client.id": "host-1-0",
        "gen_ai.conversation.id": "t",
        "session.id": "t",
        "resumed.workflow": "orders",
        "resumed.version": "7",
        "resumed.attempt": 2,
        "resumed.outcome": "failed",
        "resumed.advanced": True,
        "resumed.worker": "host-1-0",
        "resumed.closed_by": "host-1-0",
        "resumed.before": "a",
        "resumed.after": "b",
        "resumed.error_at": "nodes.py:3",
        "error.type": "ValueError",
    }
    assert {name: span.resource[name] for name in ("service.name", "service.instance.id")} == {
        "service.name": "resumed",
        "service.instance.id": "host-1",
    }


def test_the_operators_variables_name_the_service_and_sample(
    collecting: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "resumer")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=staging")
    made = export()
    made.emit(build_span(ENDED, None, log_errors=True))
    made.close()
    (span,) = collecting.spans
    assert span.resource["service.name"] == "resumer"
    assert span.resource["deployment.environment"] == "staging"
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    silent = export()
    silent.emit(build_span(ENDED, None, log_errors=True))
    silent.close()
    assert len(collecting.spans) == 1


def test_hostile_text_takes_no_other_span_along(collecting: Collector) -> None:
    hostile = AttemptOrigin("00-\n" * 60, "=,;" * 200)
    made = export()
    made.emit(build_span(replace(ENDED, thread_id="a\udc80\0\n", error="b\ud800"), hostile, log_errors=True))
    made.emit(build_span(replace(ENDED, thread_id="good"), ORIGIN, log_errors=True))
    made.close()
    assert [span.attributes["session.id"] for span in collecting.spans] == ["a?\0\n", "good"]
    assert collecting.spans[0].links == []


def test_attempts_that_wait_for_their_links_are_few_and_none_is_exported_twice() -> None:
    kept = Kept()
    traces = Traces(kept, log_errors=True)
    for number in range(MOST_WAITING + 3):
        traces.add(replace(ENDED, attempt=number))
    assert [span.attributes["resumed.attempt"] for span in kept.spans] == [0, 1, 2]
    waiting = traces.waiting()
    traces.emit(waiting, {("t", 3): ORIGIN})
    traces.emit(waiting, {})
    assert [span.attributes["resumed.attempt"] for span in kept.spans] == list(range(3 + len(waiting)))
    assert [span.application for span in kept.spans[3:5]] == [ORIGIN, None]


def test_the_log_lines_of_an_attempt_have_the_ids_only_where_traces_are_on(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    events = Events()
    events.attempt_finished(ENDED)
    assert "trace_id" not in capsys.readouterr().err
    events.traces = Traces(Kept(), log_errors=True)
    events.attempt_started(ENDED)
    events.attempt_finished(ENDED)
    assert capsys.readouterr().err.count(span_ids("t", 2, AT).to_fields()["trace_id"]) == 2


@pytest.mark.usefixtures("collecting")
def test_headers_that_cannot_be_read_are_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    library = logging.getLogger("opentelemetry")
    monkeypatch.setattr(library, "handlers", [])
    monkeypatch.setattr(library, "propagate", True)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "hunter2hunter2")
    export().close()
    assert "hunter2" not in caplog.text


def test_variables_that_exclude_each_other_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "5")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "50")
    for name in PACE:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match="OTEL_"):
        Events().open_traces("host-1")
