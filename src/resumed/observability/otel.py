"""Owns OpenTelemetry: exports the spans of attempts over OTLP in the background, and puts nodes' own spans under them.

Imported only where traces are on. `OTEL_*` variables set the collector, the resource, the sampler and the queue.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry import context as current_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from resumed.model import Attempt
from resumed.observability import redaction
from resumed.observability.traces import AttemptSpan, SpanIds, span_ids, span_name
from resumed.rows import AttemptOrigin

_PROPAGATOR = TraceContextTextMapPropagator()


class _FixedIds(IdGenerator):
    """Hands out the ids that were fixed for the next span."""

    def __init__(self) -> None:
        self.following = SpanIds(1, 1)

    def generate_trace_id(self) -> int:
        return self.following.trace_id

    def generate_span_id(self) -> int:
        return self.following.span_id


class _Spans:
    """Starts spans under fixed ids, as roots of their traces."""

    def __init__(self, resource: Resource | None = None) -> None:
        self._ids = _FixedIds()
        self._turn = threading.Lock()
        self.provider = TracerProvider(id_generator=self._ids, resource=resource, shutdown_on_exit=False)
        self._tracer = self.provider.get_tracer("resumed", version("resumed"))

    def start(self, span: AttemptSpan) -> Span:
        links = [*_application_link(span.application), *_previous_link(span.previous)]
        with self._turn:
            self._ids.following = span.ids
            return self._tracer.start_span(
                _encodable(span.name),
                context=Context(),
                kind=SpanKind.CONSUMER,
                attributes={
                    name: _encodable(value) if isinstance(value, str) else value
                    for name, value in span.attributes.items()
                },
                links=links,
                start_time=span.started_ns,
            )


class OtlpExport:
    """Exports spans over OTLP/HTTP from a thread of its own; its queue drops the oldest when it is full."""

    def __init__(
        self, instance: str, on_failed: Callable[[str | None], None], on_recovered: Callable[[int], None]
    ) -> None:
        """Start the thread. Raises ValueError for impossible values of `OTEL_*`.

        `on_failed` is called with a reason when the first batch is refused, `on_recovered` with the number of spans
        that were lost when one is taken again.
        """
        own = {"service.name": "resumed", "service.version": version("resumed"), "service.instance.id": instance}
        self._spans = _Spans(Resource.create({**own, **OTELResourceDetector().detect().attributes}))
        warnings = _LastWarning()
        library = logging.getLogger("opentelemetry")  # quiet before it reads its variables: it logs whole bad headers
        library.handlers, library.propagate = [warnings], False
        exporter = _ReportingExporter(OTLPSpanExporter(), warnings, on_failed, on_recovered)
        self._processor = BatchSpanProcessor(exporter)
        self._spans.provider.add_span_processor(self._processor)

    def emit(self, span: AttemptSpan) -> None:
        """Queue a span; never waits."""
        started = self._spans.start(span)
        if span.is_error:
            description = _encodable(span.description) if span.description is not None else None
            started.set_status(Status(StatusCode.ERROR, description))
        started.end(span.ended_ns)

    def close(self) -> None:
        """Export what is queued. May wait for the collector."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # OpenTelemetry forgot to annotate it


class _ReportingExporter(SpanExporter):
    """Reports that a collector is away once, and once that it is back, where its exporter would log every batch."""

    def __init__(
        self,
        inner: SpanExporter,
        last_warning: "_LastWarning",
        on_failed: Callable[[str | None], None],
        on_recovered: Callable[[int], None],
    ) -> None:
        self._inner, self._last_warning = inner, last_warning
        self._on_failed, self._on_recovered = on_failed, on_recovered
        self._lost, self._failing = 0, False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._last_warning.text = None
        try:
            result = self._inner.export(spans)
        except Exception as error:  # noqa: BLE001 - whatever a transport raises, the collector did not take the spans
            self._last_warning.text, result = type(error).__name__, SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self._lost += len(spans)
            if not self._failing:
                self._failing = True
                self._on_failed(self._last_warning.text)
        elif self._failing:
            self._on_recovered(self._lost)
            self._lost, self._failing = 0, False
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class _LastWarning(logging.Handler):
    """Keeps the last warning of the library: it says why a batch was refused."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # a library's faulty log call must not become our failure
            self.text = redaction.redact_message(record.getMessage())


class SpanContexts:
    """Makes an attempt's span the parent of what its nodes trace; what closes it exports the span itself."""

    def __init__(self) -> None:
        """Export nothing: all that is needed is whether the sampler takes the trace."""
        self._spans = _Spans()

    @contextmanager
    def around(self, attempt: Attempt) -> Iterator[None]:
        """Set the context of the attempt's span for the length of a block."""
        ids = span_ids(attempt.thread_id, attempt.attempt, attempt.started_at)
        context = self._spans.start(AttemptSpan(span_name(attempt), ids, 0, 0, {})).get_span_context()
        token = current_context.attach(trace.set_span_in_context(NonRecordingSpan(context)))
        try:
            yield
        finally:
            current_context.detach(token)


def _application_link(origin: AttemptOrigin | None) -> list[Link]:
    """Return the link to the application's trace; none where what its call left is no trace context."""
    if origin is None or origin.traceparent is None:
        return []
    carrier = {"traceparent": origin.traceparent, "tracestate": origin.tracestate or ""}
    context = trace.get_current_span(_PROPAGATOR.extract(carrier, context=Context())).get_span_context()
    return [Link(context, {"resumed.link": "application"})] if context.is_valid else []


def _previous_link(ids: SpanIds | None) -> list[Link]:
    if ids is None:
        return []
    context = SpanContext(ids.trace_id, ids.span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return [Link(context, {"resumed.link": "previous_attempt"})]


def _encodable(text: str) -> str:
    """Replace what is not Unicode: one such value would have its whole batch refused."""
    return text.encode("utf-8", "replace").decode()
