"""Reads the trace context of the application's current span, where the application uses OpenTelemetry."""

import sys


def current_trace() -> dict[str, str]:
    """Return `traceparent` and `tracestate` of the current span, empty where there is none.

    OpenTelemetry is not imported for it: where the application traces, it is there.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    try:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        found = {"traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"}
        return found | ({"tracestate": context.trace_state.to_header()} if context.trace_state else {})
    except Exception:  # noqa: BLE001 - a span of the application's own kind must not fail its run
        return {}
