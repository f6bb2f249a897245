"""A small collector: takes OTLP over HTTP, and keeps what spans it was sent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

PACE = {
    "RESUMED_TRACES": "true",
    "OTEL_BSP_SCHEDULE_DELAY": "100",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
}


@dataclass
class Span:
    """One span as it came over the wire, ids as hexadecimal text."""

    trace_id: str
    span_id: str
    parent: str
    name: str
    start: int
    end: int
    error: bool
    message: str
    attributes: dict[str, Any]
    links: list[tuple[str, str, str]]
    resource: dict[str, Any]


@dataclass
class Collector:
    """Where spans are sent; `refuse` answers with an error instead, `hang` with nothing at all."""

    port: int
    spans: list[Span] = field(default_factory=list)
    refuse: bool = False
    refused: int = 0
    hang: threading.Event | None = None

    def settings(self, **more: str) -> dict[str, str]:
        return {**PACE, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}", **more}

    def of(self, thread: str) -> list[Span]:
        """Give the spans of a thread's attempts, in their order."""
        found = [span for span in self.spans if span.attributes["session.id"] == thread]
        return sorted(found, key=lambda span: int(span.attributes["resumed.attempt"]))


@contextmanager
def collector(port: int = 0) -> Iterator[Collector]:
    kept = Collector(port)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if kept.hang is not None:
                kept.hang.wait(60)
                return
            if kept.refuse:
                kept.refused += 1
                self.send_error(400)
                return
            assert self.path == "/v1/traces"
            kept.spans.extend(parsed(ExportTraceServiceRequest.FromString(body)))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    kept.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        if kept.hang is not None:
            kept.hang.set()
        server.shutdown()
        server.server_close()


def parsed(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.name,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == span.status.STATUS_CODE_ERROR,
                    span.status.message,
                    values(span.attributes),
                    [
                        (link.trace_id.hex(), link.span_id.hex(), values(link.attributes)["resumed.link"])
                        for link in span.links
                    ],
                    values(resource.resource.attributes),
                )


def values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
