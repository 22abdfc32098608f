"""Connections on real sockets: what half a request costs, how many there may be, and how they are cut off."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
import uvicorn
from talkies.api import connections
from talkies.api.connections import BODY_RATE, BODY_SECONDS, HEAD_SECONDS, Connection, Connections
from talkies.errors import Unavailable
from uvicorn.server import ServerState

HEAD = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"


@dataclass
class App:
    """Reads the body, then waits for `go`; tells how its requests ended."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    started: int = 0
    hung_up: int = 0
    pieces: list[int] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.started += 1
        scope["state"]["request_id"] = "req_1"
        more = True
        while more:
            await self.reads.wait()
            message = await receive()
            if message["type"] == "http.disconnect":
                self.hung_up += 1
                return
            self.pieces.append(len(message["body"]))
            more = message["more_body"]
        if scope["path"] == "/wait":
            await receive()
            self.hung_up += 1
            return
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@dataclass
class Running:
    app: App
    state: ServerState
    connect: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def all(self) -> list[Connection]:
        return list(self.state.connections)  # type: ignore[arg-type]

    async def send(self, data: bytes) -> tuple[asyncio.StreamReader, Connection]:
        """A new connection that has sent `data`, which has arrived."""
        before = set(self.all)
        reader, writer = await self.connect()
        self.writers.append(writer)
        writer.write(data)
        await writer.drain()
        for _ in range(100):
            await asyncio.sleep(0.005)
            if new := set(self.all) - before:
                return reader, new.pop()
        raise AssertionError("not connected")


@asynccontextmanager
async def running() -> AsyncGenerator[Running]:
    app, state = App(), ServerState()
    app.reads.set()
    config = uvicorn.Config(app, log_config=None, access_log=False)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    here = Running(app, state, lambda: asyncio.open_connection("127.0.0.1", port))
    try:
        yield here
    finally:
        for writer in here.writers:
            writer.close()
        server.close()
        for _ in range(200):
            if not state.connections and not state.tasks:
                break
            await asyncio.sleep(0.01)
        assert not state.connections and not state.tasks


async def error_of(reader: asyncio.StreamReader, status: int) -> dict[str, Any]:
    """The whole answer, an error in our shape on a connection that closes."""
    async with asyncio.timeout(5):
        answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b"connection: close" in head.lower()
    content = json.loads(body)
    assert set(content) == {"detail", "error"}
    return {**content["error"], "head": head.decode()}


async def test_half_a_head_has_an_end() -> None:
    async with running() as here:
        reader, connection = await here.send(HEAD[:20])
        connection.check(HEAD_SECONDS)
        assert not reader.at_eof()
        connection.check(0.1)
        assert (await error_of(reader, 408))["code"] == "request_timeout"
        assert here.app.started == 0


async def test_a_client_that_sends_nothing_is_let_go_without_a_word() -> None:
    async with running() as here:
        reader, connection = await here.send(b"")
        connection.check(HEAD_SECONDS + 1)
        assert await reader.read() == b""


async def test_half_a_body_has_an_end_and_its_work_too() -> None:
    async with running() as here:
        reader, connection = await here.send(HEAD + b"x" * 1000)
        connection.check(BODY_SECONDS)
        assert not reader.at_eof()
        connection.check(1000 / BODY_RATE + 1)
        error = await error_of(reader, 408)
        assert "x-request-id: req_1" in error["head"]
        assert here.app.hung_up == 1


async def test_who_sends_fast_enough_has_all_the_time() -> None:
    async with running() as here:
        _, connection = await here.send(HEAD)
        for _ in range(60):
            here.writers[0].write(b"x" * int(BODY_RATE))
            await here.writers[0].drain()
            connection.check(1.0)
        await asyncio.sleep(0.05)
        connection.check(20.0)
        assert not connection.transport.is_closing()


async def test_time_in_which_we_do_not_read_is_ours() -> None:
    async with running() as here:
        here.app.reads.clear()
        _, connection = await here.send(HEAD + b"x" * 90_000)
        await asyncio.sleep(0.05)
        assert connection.flow.read_paused
        connection.check(1000.0)
        assert not connection.transport.is_closing() and connection.silence() == 0
        here.app.reads.set()


async def test_work_takes_as_long_as_it_takes() -> None:
    async with running() as here:
        _, connection = await here.send(b"GET /wait HTTP/1.1\r\nHost: t\r\n\r\n")
        connection.check(1000.0)
        assert not connection.transport.is_closing() and connection.silence() == 0


async def test_an_expected_continue_is_awaited_by_the_client() -> None:
    async with running() as here:
        here.app.reads.clear()
        _, connection = await here.send(HEAD.replace(b"Host", b"Expect: 100-continue\r\nHost"))
        connection.check(1000.0)
        assert not connection.transport.is_closing()
        here.app.reads.set()


async def test_the_next_request_of_a_connection_has_its_own_time() -> None:
    async with running() as here:
        reader, connection = await here.send(GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        connection.check(HEAD_SECONDS - 1)
        here.writers[0].write(GET + GET[:10])
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        connection.check(HEAD_SECONDS - 1)
        assert not connection.transport.is_closing()


@pytest.mark.parametrize("body", [b"", b"x" * 10])
@pytest.mark.parametrize("at_once", [True, False])
async def test_being_cut_off_is_an_answer(body: bytes, at_once: bool) -> None:
    """Also in the middle of an upload, whose client sends on."""
    async with running() as here:
        head = HEAD if body else b"GET /wait HTTP/1.1\r\nHost: t\r\n\r\n"
        reader, _ = await here.send(head + body)
        watch = Connections(here.state.connections)
        watch.end(Unavailable("talkies stops."), at_once=at_once)
        watch.close()
        if body and not at_once:
            here.writers[0].write(b"x" * 90_000)
        error = await error_of(reader, 503)
        assert (error["code"], error["message"]) == ("unavailable", "talkies stops.")
        assert "retry-after: 5" in error["head"].lower()
        assert here.app.hung_up == 1


async def test_one_too_many_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "most", 3)
    async with running() as here:
        for _ in range(3):
            await here.send(b"GET /wait HTTP/1.1\r\nHost: t\r\n\r\n")
        reader, _ = await here.send(GET)
        error = await error_of(reader, 503)
        assert error["code"] == "overloaded" and "retry-after" in error["head"].lower()
        assert here.app.started == 3


async def test_who_has_been_silent_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "most", 3)
    async with running() as here:
        silent = [await here.send(data) for data in (HEAD[:9], HEAD + b"x", HEAD[:30])]
        silent[1][1]._heard -= connections.SILENT + 2
        silent[2][1]._heard -= connections.SILENT + 1
        reader, _ = await here.send(GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        assert await silent[1][0].read() == b""
        assert not silent[0][0].at_eof() and not silent[2][0].at_eof()


async def test_there_is_a_last_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "most", 3)
    async with running() as here:
        for _ in range(3 + connections._SPARE + 20):
            _, writer = await here.connect()
            here.writers.append(writer)
        await asyncio.sleep(0.05)
        assert len(here.all) == 3 + connections._SPARE


async def test_bytes_in_chunks_of_their_own_are_read_a_few_at_a_time() -> None:
    head = b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with running() as here:
        reader, _ = await here.send(head + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
    assert sum(here.app.pieces) == 50_000
    assert max(here.app.pieces) <= connections._READ // 6 + 1


@pytest.mark.parametrize(("limit", "most"), [(64, 1), (256, 96), (1024, 480), (10**6, 4096), (-1, 4096)])
def test_there_are_fewer_than_descriptors(monkeypatch: pytest.MonkeyPatch, limit: int, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert connections.most_connections() == most


def test_the_descriptor_limit_is_raised() -> None:
    code = (
        "import resource; from talkies.api.connections import raise_descriptor_limit\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 500)); raise_descriptor_limit()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(500, 500)"


async def test_a_want_of_descriptors_is_reported_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    watch = Connections(set())
    try:
        with structlog.testing.capture_logs() as lines:
            for _ in range(2048):
                loop.call_exception_handler(
                    {"message": "socket.accept() out of system resource", "exception": OSError(24, "Too many")}
                )
        assert [line["event"] for line in lines] == ["connections cannot be accepted"]
        loop.call_exception_handler({"message": "another matter"})
        assert "another matter" in caplog.text
    finally:
        watch.close()
        loop.set_exception_handler(None)
