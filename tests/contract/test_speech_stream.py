"""Speech that is sent while it is made, through the real tritonserver, on real Kokoro weights."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from harness import audio
from harness.server import Server, wait_until
from harness.speech import CONTENT_TYPES, FRAME, MAGIC, SENTENCES, STEPS
from harness.words import wer

RATE = 24_000
MODEL = "kokoro-82m"
TEXT = " ".join(SENTENCES[:2])
LONG_TEXT = " ".join(SENTENCES * 3)
FORMATS = [*MAGIC, "pcm"]


@contextlib.contextmanager
def streamed(server: Server, text: str, **fields: object) -> Iterator[httpx.Response]:
    body = {"model": MODEL, "input": text, "stream_format": "audio", **fields}
    with server.http() as client, client.stream("POST", "/v1/audio/speech", json=body) as response:
        yield response


def samples(data: bytes, format: str) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.frombuffer(data, "<i2") if format == "pcm" else audio.decode(data, RATE)


@pytest.fixture(scope="module")
def spoken(server: Server) -> int:
    """Samples of STEPS, from the buffered answer."""
    response = server.speak(STEPS, response_format="pcm")
    assert "content-length" in response.headers
    return len(response.content) // 2


@pytest.mark.parametrize("format", FORMATS)
def test_the_sdk_reads_speech_while_it_is_made(server: Server, spoken: int, format: str) -> None:
    with server.openai().audio.speech.with_streaming_response.create(
        model=MODEL,
        voice="af_heart",
        input=STEPS,
        response_format=format,  # type: ignore[arg-type]
    ) as response:
        assert response.headers.get("transfer-encoding") == "chunked"
        assert response.headers["content-type"] == CONTENT_TYPES.get(format, "application/octet-stream")
        assert response.headers.get("x-sample-rate") == ("24000" if format == "pcm" else None)
        chunks = response.iter_bytes()
        first = next(chunks)
        assert server.active() == 1  # the last sentence is not made yet
        data = first + b"".join(chunks)
    assert 0 < len(first) < len(data)
    assert data.startswith(MAGIC.get(format, (b"",)))
    assert abs(len(samples(data, format)) - spoken) / RATE <= FRAME.get(format, 0) + 1 / RATE
    assert server.active() == 0


async def test_the_async_sdk_writes_a_file(server: Server, tmp_path: Any) -> None:
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=120)
    async with (
        client,
        client.audio.speech.with_streaming_response.create(
            model=MODEL, voice="af_heart", input="Hello.", response_format="flac", stream_format="audio"
        ) as response,
    ):
        await response.stream_to_file(tmp_path / "hello.flac")
    assert np.abs(audio.decode(tmp_path / "hello.flac", RATE)).max() > 3000


def test_events(server: Server, spoken: int) -> None:
    with streamed(server, STEPS, stream_format="sse", response_format="pcm") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["x-sample-rate"] == "24000"
        lines = response.iter_lines()
        first = next(lines)
        assert server.active() == 1
        rest = [line for line in lines if line]
    events = [json.loads(line.removeprefix("data: ")) for line in (first, *rest)]
    *deltas, done = events
    assert len(deltas) >= 3
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    pcm = b"".join(base64.b64decode(event["audio"], validate=True) for event in deltas)
    assert len(pcm) // 2 == spoken
    assert done["type"] == "speech.audio.done"
    assert set(done["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}


@pytest.mark.parametrize("format", ["wav", "mp3", "opus", "aac", "flac"])
def test_streamed_speech_keeps_the_words(server: Server, format: str) -> None:
    with streamed(server, TEXT, response_format=format) as response:
        data = response.read()
    if format == "wav":
        assert data[4:8] == data[40:44] == b"\xff" * 4
    heard = server.openai().audio.transcriptions.create(
        model="whisper-base", file=(f"speech.{format}", io.BytesIO(data)), language="en"
    )
    assert wer([TEXT], [heard.text]) <= 0.05, heard.text


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"input": "  "}, 400, "input"),
        ({"voice": "nobody"}, 400, "voice"),
        ({"model": "tts-9"}, 404, "model"),
    ],
)
def test_errors_before_the_first_audio(
    server: Server, stream_format: str, fields: dict[str, str], status: int, param: str
) -> None:
    response = server.speak(stream_format=stream_format, **fields)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


def test_an_unknown_stream_format(server: Server) -> None:
    response = server.speak("Hello.", stream_format="video")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "stream_format")


def test_http_1_0_gets_the_whole_file(server: Server) -> None:
    class Connection(http.client.HTTPConnection):
        _http_vsn, _http_vsn_str = 10, "HTTP/1.0"

    connection = Connection("127.0.0.1", server.port, timeout=120)
    with contextlib.closing(connection):
        body = {"model": MODEL, "input": "Hello.", "stream_format": "audio"}
        connection.request("POST", "/v1/audio/speech", json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        assert int(response.headers["content-length"]) == len(response.read())


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_a_hang_up_frees_the_place(server: Server, stream_format: str) -> None:
    with streamed(server, LONG_TEXT, stream_format=stream_format) as response:
        next(response.iter_raw())
        # Reading one chunk with a generator that is then dropped closes the connection.
    wait_until(lambda: server.active() == 0, 60, "the abandoned request has gone")
    assert server.speak("Hello.").status_code == 200


def test_a_reader_that_takes_its_time_does_not_keep_the_model(server: Server) -> None:
    with streamed(server, STEPS) as response:
        chunks = response.iter_raw()
        first = next(chunks)
        wait_until(lambda: server.active() == 0, 60, "the speech is made, though it is not read")
        data = first + b"".join(chunks)
    assert np.abs(audio.decode(data, RATE)).max() > 3000


def test_ten_streams_share_the_engine(server: Server) -> None:
    """Everybody hears a first sentence before anybody has heard all."""
    ends: list[int] = []
    order, failures = list[tuple[str, int]](), list[Exception]()

    def listen(number: int) -> None:
        try:
            with streamed(server, STEPS, response_format="pcm") as response:
                total = 0
                for chunk in response.iter_raw():
                    if not total:
                        order.append(("first", number))
                    total += len(chunk)
            order.append(("last", number))
            ends.append(total)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=listen, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    assert not failures
    assert len(set(ends)) == 1 and len(ends) == 10
    assert [what for what, _ in order[:10]] == ["first"] * 10
    assert server.active() == 0


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_a_dead_engine_is_not_heard(server: Server, stream_format: str) -> None:
    expected = len(server.speak(STEPS, response_format="pcm").content)
    with streamed(server, STEPS, stream_format=stream_format, response_format="pcm") as response:
        chunks = response.iter_raw()
        data = next(chunks)
        os.kill(server.engine_pid(MODEL), signal.SIGKILL)
        data += b"".join(chunks)
    if stream_format == "sse":
        events = [json.loads(event.removeprefix("data: ")) for event in data.decode().split("\n\n") if event]
        assert events.pop()["type"] == "speech.audio.done"
        data = b"".join(base64.b64decode(event["audio"]) for event in events)
    assert len(data) == expected
    assert server.active() == 0


def test_an_engine_that_dies_again_breaks_the_transfer(server: Server) -> None:

    def reloaded() -> bool:
        with contextlib.suppress(LookupError):
            return server.engine_pid(MODEL) != first and server.active() == 1
        return False

    with streamed(server, LONG_TEXT, response_format="mp3") as response:
        chunks = response.iter_raw()
        next(chunks)
        first = server.engine_pid(MODEL)
        os.kill(first, signal.SIGKILL)
        wait_until(reloaded, 60, "the speech goes on in a new process")
        os.kill(server.engine_pid(MODEL), signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in chunks:
                pass
    assert '"event": "broke off"' in server.log()
    assert "Traceback" not in server.log()
    assert server.speak("Hello.").status_code == 200
