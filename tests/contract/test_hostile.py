"""Requests that want more than their share: they are refused or end with their client, and others are served."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from harness import audio
from harness.hostile import bomb, commented, tagged
from harness.processes import is_alive
from harness.server import JFK, Server, wait_until

_PATIENCE = 5.0
"""Seconds for a cheap answer: a bound for what hangs, not a measurement."""
JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


def healthy_meanwhile(server: Server, work: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer to the work; the health check is answered again and again until it comes."""
    with ThreadPoolExecutor(1) as pool, server.http(timeout=_PATIENCE) as http:
        running = pool.submit(work)
        while not running.done():
            assert http.get("/healthz").json()["ok"] is True
        return running.result()


@pytest.mark.parametrize(
    ("path", "content_type", "start", "unit", "size", "status"),
    [
        ("/v1/audio/transcriptions", "application/x-www-form-urlencoded", b"", b"a&", 2_000_000, 400),
        ("/v1/audio/transcriptions", "application/x-www-form-urlencoded", b"", b"a=1&", 6_400_000, 413),
        ("/v1/audio/speech", "application/json", b'{"input": "Hi.", "x": [', b"1,", 8_000_000, 400),
        ("/v1/mcp", "application/json", b'{"jsonrpc": "2.0", "x": [', b"1,", 100_000_000, 400),
        ("/v1/mcp", "application/json", b'{"jsonrpc": "2.0"', b',"k":1', 20_000_000, 400),
    ],
)
def test_bodies_that_are_dear_to_parse(
    server: Server, path: str, content_type: str, start: bytes, unit: bytes, size: int, status: int
) -> None:
    body = start + unit * (size // len(unit))
    headers = JSON | {"content-type": content_type}
    response = healthy_meanwhile(server, lambda: httpx.post(server.url + path, content=body, headers=headers))
    assert response.status_code == status, response.text
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_form_sent_byte_by_byte(server: Server) -> None:
    """Each byte a chunk of its own: the form is read like another, and nobody waits for it."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-base\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        + b"x" * 300_000
        + b"\r\n--b--\r\n"
    )

    def send() -> httpx.Response:
        def pieces() -> Iterator[bytes]:
            for number in range(len(body)):
                yield body[number : number + 1]

        headers = {"content-type": "multipart/form-data; boundary=b"}
        return httpx.post(f"{server.url}/v1/audio/transcriptions", content=pieces(), headers=headers, timeout=120)

    response = healthy_meanwhile(server, send)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == "file"


@contextlib.contextmanager
def half_sent(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """That many connections with half a head or half a body."""
    halves = (b"POST /v1/audio/speech HTTP/1.1\r\nHost: t\r\n", b"POST /v1/audio/speech HTTP/1.1\r\nHost: t\r\n"
              b"Content-Length: 1000\r\n\r\n{")  # fmt: skip
    with contextlib.ExitStack() as stack:
        sockets = []
        for number in range(count):
            sockets.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10)))
            with contextlib.suppress(OSError):
                sockets[-1].sendall(halves[number % 2])
        yield sockets


def is_healthy(server: Server) -> bool:
    with contextlib.suppress(httpx.TransportError), server.http(timeout=_PATIENCE) as http:
        return http.get("/healthz").status_code == 200
    return False


def test_more_half_sent_requests_than_descriptors(start_server: Callable[..., Server]) -> None:
    server = start_server()
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (256, 256))
    time.sleep(1.5)  # in which it sees that there are fewer
    with half_sent(server, 400):
        wait_until(lambda: is_healthy(server), 30, "others are served")
        wait_until(lambda: server.transcribe(JFK).status_code == 200, 60, "others are transcribed")
    wait_until(lambda: server.active() == 0, 30, "nothing is left of them")
    assert server.transcribe(JFK).status_code == 200
    assert "Traceback" not in server.log() and "out of system resource" not in server.log()
    with half_sent(server, 90):
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(90) == 0
    assert "Traceback" not in server.log()


def test_what_the_drain_cuts_off_is_told_so(start_server: Callable[..., Server]) -> None:
    """A request at work, and one in the middle of its upload."""
    server = start_server(DRAIN_TIMEOUT="2", PRELOAD="kokoro-82m")
    with ThreadPoolExecutor() as pool:
        work = pool.submit(server.speak, "She sells sea shells by the sea shore. " * 400)
        wait_until(lambda: server.active() == 1, 60, "the request is running")
        with socket.create_connection(("127.0.0.1", server.port), 30) as upload:
            upload.sendall(
                b"PUT /v1/files/a.wav HTTP/1.1\r\nHost: t\r\nContent-Length: 90000000\r\n\r\n" + bytes(100_000)
            )
            server.process.send_signal(signal.SIGTERM)
            upload.settimeout(60)
            told = b"".join(iter(lambda: upload.recv(65_536), b""))
        response = work.result(60)
    assert server.process.wait(60) == 0
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
    assert int(response.headers["retry-after"]) > 0
    assert told.startswith(b"HTTP/1.1 503 ") and b"retry-after" in told.lower() and b'"unavailable"' in told
    assert not list((server.data / "files").rglob("*.wav"))
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(start_server: Callable[..., Server], number: signal.Signals) -> None:
    server = start_server(DRAIN_TIMEOUT="300", PRELOAD="kokoro-82m")
    children = server.processes()
    with ThreadPoolExecutor() as pool:
        work = pool.submit(server.speak, "She sells sea shells by the sea shore. " * 400)
        wait_until(lambda: server.active() == 1, 60, "the request is running")
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(2)
        server.process.send_signal(number)
        assert server.process.wait(60) == 0
        assert work.result(60).status_code == 503
    assert not [pid for pid in children if is_alive(pid)]
    assert "Traceback" not in server.log()


@pytest.mark.parametrize(
    "text",
    ["\u200b. " * 150_000, "e" + "\u0301" * 8_000, "-" * 300_000, "." * 600_000, "AB1-" * 50_000, "9" * 100_000],
    ids=["unseen", "accents", "dashes", "dots", "parts", "digits"],
)
def test_speech_that_is_dear_to_read(server: Server, text: str) -> None:
    """Others speak beside it, and after its client has gone."""
    assert server.speak("Hi.").status_code == 200
    with server.http(timeout=_PATIENCE) as http, ThreadPoolExecutor(1) as pool:
        body = {"model": "kokoro-82m", "input": text, "response_format": "wav"}
        hostile = pool.submit(http.post, "/v1/audio/speech", json=body)
        assert server.speak("Hi.").status_code == 200
        with contextlib.suppress(httpx.ReadTimeout):
            answer = hostile.result()
            assert answer.status_code in (200, 400), answer.text
    wait_until(lambda: server.active() == 0, 120, "its work has ended with it")
    with server.http(timeout=120) as http:
        assert http.post("/v1/audio/speech", json={"model": "kokoro-82m", "input": "Hi."}).status_code == 200


DEAR = {
    "mp3": lambda: tagged(audio.encode(audio.tone(3, 44_100), 44_100, "mp3", "libmp3lame"), 100_000),
    "flac": lambda: commented(JFK.read_bytes(), 1_000_000),
}


@pytest.mark.parametrize("kind", DEAR)
def test_files_that_are_dear_to_open(server: Server, kind: str) -> None:
    """Two of them, one for each decoder, whose clients hang up; a clip does not wait for them to be read."""
    data = DEAR[kind]()
    assert server.transcribe(JFK).status_code == 200

    def ask() -> None:
        with contextlib.suppress(httpx.ReadTimeout), server.http(timeout=3) as http:
            http.post("/v1/audio/transcriptions", files={"file": (f"a.{kind}", data)}, data={"model": "whisper-base"})

    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: ask(), range(2)))
    with server.http(timeout=60) as http:
        files = {"file": ("a.flac", JFK.read_bytes())}
        assert http.post("/v1/audio/transcriptions", files=files, data={"model": "whisper-base"}).status_code == 200
    wait_until(lambda: server.active() == 0, 30, "nothing is left of them")


def test_a_file_that_takes_hours_to_open(server: Server) -> None:
    """Its client waits, and is told; the engine that was in memory stays there."""
    assert server.transcribe(JFK).status_code == 200
    engine = server.engine_pid("whisper-base.engine")
    response = server.transcribe(DEAR["flac"](), "a.flac")
    assert response.status_code == 400, response.text
    assert "header takes longer" in response.json()["error"]["message"]
    assert server.transcribe(JFK).status_code == 200
    assert server.engine_pid("whisper-base.engine") == engine


def test_a_file_that_is_larger_than_memory(start_server: Callable[..., Server]) -> None:
    server = start_server()  # whose decoders no other test has ended
    assert server.transcribe(JFK).status_code == 200
    before = set(server.pids("audio_chunks"))
    response = server.transcribe(bomb(1_600_000_000), "a.mov")
    assert response.status_code == 400, response.text
    assert "memory" in response.json()["error"]["message"]
    assert set(server.pids("audio_chunks")) == before
    assert server.transcribe(JFK).status_code == 200
