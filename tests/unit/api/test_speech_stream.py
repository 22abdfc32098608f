"""Streamed speech over a fake engine: what is sent when, and how it ends when it goes wrong."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from talkies.api import streams
from talkies.errors import EngineDied, ModelUnavailable
from talkies.tts.encoder import FORMATS

from harness.facade import SPOKEN, Facade, facade


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Facade]:
    async with facade(tmp_path) as running:
        yield running


async def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError


@dataclass
class Exchange:
    """One request to the application as a server sees it: every message, as it comes."""

    api: Facade
    http_version: str = "1.1"
    headers: dict[str, str] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    sent: list[dict[str, Any]] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    writable: asyncio.Event = field(default_factory=asyncio.Event)
    _asked: bool = False

    def __post_init__(self) -> None:
        self.writable.set()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": self.http_version,
            "method": "POST",
            "path": "/v1/audio/speech",
            "raw_path": b"/v1/audio/speech",
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(b"content-type", b"application/json")]
            + [(name.encode(), value.encode()) for name, value in self.headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        await self.api.app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            body = {"model": "kokoro-82m", "input": "Hello.", **self.fields}
            return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.writable.wait()
        self.sent.append(dict(message))

    async def until(self, messages: int) -> None:
        await eventually(lambda: len(self.sent) >= messages)

    @property
    def answer_headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def complete(self) -> bool:
        return not self.sent[-1].get("more_body", False) and self.sent[-1]["type"] == "http.response.body"

    @property
    def events(self) -> list[dict[str, Any]]:
        *events, end = self.body.decode().split("\n\n")
        assert end == ""
        return [json.loads(event.removeprefix("data: ")) for event in events]


@pytest.mark.parametrize("name", FORMATS)
async def test_audio_is_sent_as_it_is_made(api: Facade, name: str) -> None:
    api.synthesizer.hold = asyncio.Event()
    exchange = Exchange(api, fields={"stream_format": "audio", "response_format": name})
    await exchange.until(2)
    assert not api.synthesizer.closed  # the speech is not over
    assert exchange.sent[0]["status"] == 200
    assert len(exchange.sent[1]["body"]) > 0
    api.synthesizer.hold.set()
    await exchange.task
    assert exchange.complete
    assert exchange.answer_headers["content-type"] == FORMATS[name].media_type
    assert "content-length" not in exchange.answer_headers
    assert exchange.answer_headers["x-accel-buffering"] == "no"
    assert exchange.answer_headers.get("x-sample-rate") == ("24000" if name == "pcm" else None)
    if name == "pcm":
        assert exchange.body == SPOKEN


async def test_events(api: Facade) -> None:
    exchange = Exchange(api, fields={"stream_format": "sse", "response_format": "pcm"})
    await exchange.task
    headers = exchange.answer_headers
    assert headers["content-type"].startswith("text/event-stream")
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
    assert headers["x-sample-rate"] == "24000"
    *deltas, done = exchange.events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert all(event["audio"] for event in deltas)
    assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == SPOKEN
    assert done["type"] == "speech.audio.done"
    assert set(done["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}
    assert all(isinstance(number, int) for number in done["usage"].values())


async def test_the_sdks_streaming_response_is_streamed(api: Facade) -> None:
    exchange = Exchange(api, headers={"x-stainless-raw-response": "stream"})
    await exchange.task
    assert "content-length" not in exchange.answer_headers


@pytest.mark.parametrize(
    ("http_version", "headers", "fields"),
    [
        ("1.1", {}, {}),
        ("1.1", {}, {"stream_format": None}),
        ("1.1", {"x-stainless-raw-response": "true"}, {}),
        # No chunks in HTTP/1.0: a transfer that breaks off would look complete.
        ("1.0", {}, {"stream_format": "audio"}),
        ("1.0", {"x-stainless-raw-response": "stream"}, {}),
    ],
)
async def test_whole_files(api: Facade, http_version: str, headers: dict[str, str], fields: dict[str, Any]) -> None:
    exchange = Exchange(api, http_version, headers, {"response_format": "wav", **fields})
    await exchange.task
    assert int(exchange.answer_headers["content-length"]) == len(exchange.body) == 44 + len(SPOKEN)
    assert exchange.body[4:8] == (len(SPOKEN) + 36).to_bytes(4, "little")


@pytest.mark.parametrize("asked", ["wav", "", "AUDIO"])
async def test_an_unknown_stream_format(api: Facade, asked: str) -> None:
    body = {"model": "kokoro-82m", "input": "Hello.", "stream_format": asked}
    response = await api.client.post("/v1/audio/speech", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "stream_format")
    assert "audio or sse" in response.json()["detail"]


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
async def test_a_failure_before_the_first_audio_is_an_ordinary_error(api: Facade, stream_format: str) -> None:
    async def speak(*_: Any, **__: Any) -> AsyncGenerator[bytes]:
        raise ModelUnavailable("no weights")
        yield b""

    api.synthesizer.speak = speak  # type: ignore[method-assign]
    exchange = Exchange(api, fields={"stream_format": stream_format})
    await exchange.task
    assert exchange.sent[0]["status"] == 503
    assert exchange.answer_headers["content-type"] == "application/json"
    assert json.loads(exchange.body)["error"]["code"] == "model_unavailable"


async def test_a_failure_later_is_an_error_event(api: Facade) -> None:
    api.synthesizer.failure = EngineDied("The model's process ended.")
    exchange = Exchange(api, fields={"stream_format": "sse", "response_format": "pcm"})
    await exchange.task
    delta, last = exchange.events
    assert base64.b64decode(delta["audio"]) == SPOKEN[:10_000]
    assert (set(last), last["type"]) == ({"type", "detail", "error"}, "error")
    assert last["error"] == {
        "message": "The model's process ended.",
        "type": "server_error",
        "param": None,
        "code": "engine_died",
    }
    assert exchange.complete


async def test_a_failure_later_leaves_the_audio_unfinished(api: Facade) -> None:
    api.synthesizer.failure = EngineDied("The model's process ended.")
    with structlog.testing.capture_logs() as lines:
        exchange = Exchange(api, fields={"stream_format": "audio", "response_format": "pcm"})
        await exchange.task
    assert exchange.body == SPOKEN[:10_000]
    assert not exchange.complete
    assert ("broke off", "engine_died") in [(line["event"], line.get("code")) for line in lines]


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
async def test_a_bug_never_looks_like_an_end(api: Facade, stream_format: str) -> None:
    api.synthesizer.failure = RuntimeError("SECRET")
    with structlog.testing.capture_logs() as lines:
        exchange = Exchange(api, fields={"stream_format": stream_format, "response_format": "pcm"})
        await exchange.task
    if stream_format == "audio":
        assert not exchange.complete
    else:
        assert exchange.events[-1]["type"] == "error"
        assert exchange.events[-1]["error"]["code"] == "internal_error"
    assert b"SECRET" not in exchange.body
    assert ("unhandled", "RuntimeError") in [(line["event"], line.get("error")) for line in lines]
    assert "SECRET" not in str(lines)


async def test_comments_keep_silent_events_open(api: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_KEEP_ALIVE", 0.01)
    api.synthesizer.hold = asyncio.Event()
    exchange = Exchange(api, fields={"stream_format": "sse", "response_format": "pcm"})
    await eventually(lambda: exchange.body.count(b": keep-alive\n\n") > 1 if exchange.sent else False)
    api.synthesizer.hold.set()
    await exchange.task
    assert exchange.complete


async def test_silent_audio_has_nothing_in_it_but_audio(api: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_KEEP_ALIVE", 0.01)
    api.synthesizer.hold = asyncio.Event()
    exchange = Exchange(api, fields={"stream_format": "audio", "response_format": "pcm"})
    await exchange.until(2)
    await asyncio.sleep(0.05)
    api.synthesizer.hold.set()
    await exchange.task
    assert exchange.body == SPOKEN


async def test_a_hang_up_ends_the_speech(api: Facade) -> None:
    api.synthesizer.hold = asyncio.Event()
    exchange = Exchange(api, fields={"stream_format": "audio"})
    await exchange.until(2)
    exchange.hung_up.set()
    async with asyncio.timeout(5):
        await exchange.task
    assert api.synthesizer.closed
    assert not exchange.complete


async def test_a_slow_reader_holds_back_no_more_than_the_bound(api: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_AHEAD", 5_000)
    made = 0

    async def speak(*_: Any, **__: Any) -> AsyncGenerator[bytes]:
        nonlocal made
        while made < 20:
            made += 1
            yield bytes(2_000)

    api.synthesizer.speak = speak  # type: ignore[method-assign]
    exchange = Exchange(api, fields={"stream_format": "audio", "response_format": "pcm"})
    exchange.writable.clear()
    await asyncio.sleep(0.2)
    assert made == 4  # one is being sent, three wait
    exchange.writable.set()
    await exchange.task
    assert len(exchange.body) == 40_000
    assert exchange.complete


async def test_a_reader_that_can_wait_does_not_keep_the_model(api: Facade) -> None:
    exchange = Exchange(api, fields={"stream_format": "audio"})
    exchange.writable.clear()
    await eventually(lambda: api.synthesizer.closed)
    assert exchange.sent == []
    exchange.writable.set()
    await exchange.task
    assert exchange.complete
