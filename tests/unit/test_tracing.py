"""The caller's trace goes on; spans are kept only where a collector is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from talkies import tracing

from harness.facade import facade

TRACE, ABOVE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{ABOVE}-01", "tracestate": "vendor=1"}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("talkies"))
    return exporter


def test_the_callers_trace_is_handed_on_without_a_collector() -> None:
    with tracing.request(HEADERS, "POST", "req_1"), tracing.span("whisper-base", "req_1") as headers:
        assert headers == HEADERS


@given(st.dictionaries(st.sampled_from(["traceparent", "tracestate", "baggage"]), st.text()))
def test_nonsense_is_not_handed_on(given: dict[str, str]) -> None:
    with tracing.request(given, "POST", "req_1"), tracing.span("whisper-base", "req_1") as headers:
        assert set(headers) <= {"traceparent", "tracestate"}
        trace = headers.get("traceparent", HEADERS["traceparent"])
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", trace)


def parent(span: ReadableSpan) -> int:
    assert span.parent
    return span.parent.span_id


async def test_a_request_is_a_span_below_its_caller(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    async with facade(tmp_path) as api:
        await api.client.get("/v1/models/whisper-base", headers=HEADERS)
        api.transcriber.failure = RuntimeError("the secret word is rhubarb")
        assert (await api.transcribe()).status_code == 500
    first, second = spans.get_finished_spans()
    assert (first.name, f"{first.context.trace_id:032x}", f"{parent(first):016x}") == (
        "GET /v1/models/{model_id:path}", TRACE, ABOVE,
    )  # fmt: skip
    assert first.attributes and first.attributes["http.response.status_code"] == 200 and first.status.is_ok is not False
    assert second.name == "POST /v1/audio/transcriptions" and not second.status.is_ok
    assert "rhubarb" not in second.to_json()


def test_work_in_triton_is_a_span_below_the_request(spans: InMemorySpanExporter) -> None:
    with (
        pytest.raises(ValueError, match="rhubarb"),
        tracing.request(HEADERS, "POST", "req_1"),
        tracing.span("whisper-base", "req_1") as headers,
    ):
        assert headers["tracestate"] == "vendor=1"
        raise ValueError("rhubarb")
    inner, outer = spans.get_finished_spans()
    assert headers["traceparent"] == f"00-{TRACE}-{inner.context.span_id:016x}-01"
    assert (inner.name, parent(inner)) == ("infer whisper-base", outer.context.span_id)
    assert inner.status.description == "ValueError" and "rhubarb" not in inner.to_json() + outer.to_json()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://box:4318"}, "http://box:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://box/otlp/"}, "http://box/otlp/v1/traces"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://box", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b/t"},
            "http://b/t",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://box", "OTEL_SDK_DISABLED": "true"}, ""),
    ],
)
def test_the_collector(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing.collector() == expected


def test_without_a_collector_the_sdk_is_not_even_imported() -> None:
    code = "import sys; from talkies import tracing; tracing.configure()(); print('opentelemetry.sdk' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
