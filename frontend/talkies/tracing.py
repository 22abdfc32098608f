"""Traces by W3C's headers: the caller's trace goes on through talkies and into tritonserver.

Spans are kept and sent only where OpenTelemetry's own variables name a collector; see `configure`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
_tracer: trace.Tracer = trace.NoOpTracer()
"""Not OpenTelemetry's global one: libraries that find that add spans of their own, with messages of exceptions."""
_FAILED = 500
_LAST_WORDS = 2000
"""Milliseconds in which the last spans must be sent."""


def collector() -> str:
    """The URL that spans are sent to by OTLP over HTTP; empty where none is configured."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ""
    if url := os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return url
    base = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    return f"{base.rstrip('/')}/v1/traces" if base else ""


def configure() -> Callable[[], None]:
    """Send spans to the collector, if there is one; what ends that again."""
    if not collector():
        return lambda: None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "talkies")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    global _tracer
    _tracer = provider.get_tracer("talkies")

    def end() -> None:
        provider.force_flush(_LAST_WORDS)
        provider.shutdown()

    return end


@contextmanager
def request(headers: Mapping[str, str], method: str, request_id: str) -> Iterator[Span]:
    """The span of one HTTP request, below the caller's; it is that of everything inside."""
    above = _PROPAGATOR.extract(headers)
    attributes = {"http.request.method": method, "talkies.request_id": request_id}
    # Without exceptions: their messages may quote what was said.
    with _tracer.start_as_current_span(
        method, above, SpanKind.SERVER, attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        yield span


def answered(span: Span, method: str, route: str | None, status: int, model: str) -> None:
    """Say what became of the request."""
    if route:
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    if model:
        span.set_attribute("talkies.model", model)
    if status >= _FAILED:
        span.set_status(Status(StatusCode.ERROR))


@contextmanager
def span(model: str, request_id: str) -> Iterator[dict[str, str]]:
    """The span of one request to a Triton model; the headers that go with it."""
    # Not the current one of its context: it is held over the yields of a generator, whose caller has its own.
    attributes = {"talkies.model": model, "talkies.request_id": request_id}
    made = _tracer.start_span(f"infer {model}", kind=SpanKind.CLIENT, attributes=attributes)
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers, trace.set_span_in_context(made))
    try:
        yield headers
    except GeneratorExit:
        raise
    except BaseException as error:
        made.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        made.end()
