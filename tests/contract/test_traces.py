"""A trace that begins at the caller, seen by a collector: through the facade, and into tritonserver's ensemble."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.server import ASR, JFK, Server, wait_until

TRACE, ABOVE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@dataclass(frozen=True)
class Span:
    name: str
    trace: str
    id: str
    parent: str


@dataclass
class Collector:
    url: str
    spans: list[Span] = field(default_factory=list)


def _spans(body: bytes, media: str) -> Iterator[Span]:
    """Of one export, as protobuf (the facade) or JSON (tritonserver)."""
    if "json" in media:
        for resource in json.loads(body)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    yield Span(span["name"], span["traceId"], span["spanId"], span.get("parentSpanId", ""))
        return
    for found in ExportTraceServiceRequest.FromString(body).resource_spans:
        for inner in found.scope_spans:
            for one in inner.spans:
                yield Span(one.name, one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex())


@pytest.fixture
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            made.spans += _spans(body, self.headers["content-type"])
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_trace_goes_through_all_parts(
    collector: Collector, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    server = start_server()
    with server.http(headers={"traceparent": f"00-{TRACE}-{ABOVE}-01"}) as http:
        files = {"file": ("jfk.flac", Path(JFK).read_bytes())}
        http.post("/v1/audio/transcriptions", files=files, data={"model": ASR}).raise_for_status()
    wanted = {"POST /v1/audio/transcriptions", f"infer {ASR}", "InferRequest", ASR, "audio_chunks", f"{ASR}.engine"}

    def ours() -> dict[str, Span]:
        return {span.name: span for span in collector.spans if span.trace == TRACE}

    wait_until(lambda: wanted <= set(ours()), 60, "all spans have come")
    found = ours()
    assert found["POST /v1/audio/transcriptions"].parent == ABOVE
    assert found[f"infer {ASR}"].parent == found["POST /v1/audio/transcriptions"].id
    assert found["InferRequest"].parent == found[f"infer {ASR}"].id
