"""Connections within bounds: how many there are, how long a client may take to send, and how one is cut off.

uvicorn's HTTP protocol with what it leaves open. `Connections` looks after all of them, once a second.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterable
from typing import Any, cast

import h11
import structlog
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from talkies.api.answers import answer
from talkies.errors import Overloaded, RequestTimeout, TalkiesError

log = structlog.get_logger("talkies.connections")

HEAD_SECONDS = 20.0
"""A request's head must be there by then."""
BODY_SECONDS, BODY_RATE = 30.0, 500.0
"""Its body may take so long, and a second more for each of so many bytes: slower than any line that is of use."""
SILENT = 5.0
"""Seconds without a byte, after which a connection that owes us some makes room for another when there are too many."""
_SPARE = 64
"""Connections beyond the bound that still get an answer: that there are too many."""
_MOST = 4096
_OWN_DESCRIPTORS = 64
"""What the process has open itself, with room to spare."""
_PER_CONNECTION = 2
"""Descriptors: the socket and the file that its request is about."""
_READ = 16 << 10
"""Bytes that are parsed before others get their turn; sent in chunks of one byte they take 20 ms."""
_QUIET = 10.0
"""Seconds between two complaints in the log."""
_LINGER = 2.0
"""Seconds in which what a client still sends is dropped: closed at once, the connection may lose the answer."""


def raise_descriptor_limit() -> None:
    """As many descriptors as this process may have; what it starts inherits them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections() -> int:
    """How many connections there is room for, so that descriptors are never what runs out."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return max(1, min(_MOST, (soft - _OWN_DESCRIPTORS) // _PER_CONNECTION))


class Connection(H11Protocol, asyncio.BufferedProtocol):
    """One client's connection."""

    most = most_connections()
    """Of all together; `Connections` keeps it up to date."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._buffer = bytearray(_READ)
        self._heard = self.loop.time()
        self._received = 0
        self._waited = 0.0
        self._ended = self._refused = False
        if len(self.connections) > self.most:
            self._make_room()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._ended:
            return
        self._heard = self.loop.time()
        self._received += nbytes
        if self._refused:
            self.end(Overloaded("The server has as many connections as it can hold; try again in a moment."))
            return
        before = self.cycle
        self.data_received(bytes(self._buffer[:nbytes]))
        if self.cycle is not before:
            self._start_waiting()

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade that nobody offers is answered as the request that it also is, without advice what to install."""

    def on_response_complete(self) -> None:
        self._start_waiting()
        super().on_response_complete()

    def check(self, seconds: float) -> None:
        """Count the `seconds` that have passed, if it was the client who was waited for; cut it off after too many."""
        if self._ended or self.transport.is_closing() or not self._owes():
            return
        self._waited += seconds
        if self._waited > (BODY_SECONDS + self._received / BODY_RATE if self._is_running() else HEAD_SECONDS):
            self.end(RequestTimeout())

    def silence(self) -> float:
        """Seconds without a byte from a client that owes us some; 0 while it is we who are at work."""
        if self._ended or self.transport.is_closing() or not self._owes():
            return 0.0
        return self.loop.time() - self._heard

    def end(self, error: TalkiesError, *, linger: float = _LINGER) -> None:
        """Answer with `error`, unless an answer has begun, and close. A request at work takes it for a hang-up."""
        if self._ended or self.transport.is_closing():
            return
        self._ended = True
        running = self._is_running()
        started = running and self.cycle.response_started
        if running:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.flow.resume_writing()
        self._unset_keepalive_if_required()
        if started or not (running or self._received) or self.conn.our_state is h11.ERROR:
            self.transport.close()
            return
        response = answer(error)
        headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
        if running and (request_id := self.scope["state"].get("request_id")):
            headers.append((b"x-request-id", str(request_id).encode()))
        event = h11.Response(
            status_code=response.status_code, headers=headers, reason=STATUS_PHRASES[response.status_code]
        )
        self.transport.write(self.conn.send(event) or b"")
        self.transport.write(self.conn.send(h11.Data(data=bytes(response.body))) or b"")
        self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")
        if linger:
            self.flow.resume_reading()
            self.transport.write_eof()
            self.loop.call_later(linger, self.transport.close)
        else:
            self.transport.close()

    def _start_waiting(self) -> None:
        self._waited = 0.0
        self._received = 0

    def _is_running(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _owes(self) -> bool:
        """Whether the client must send something before we can go on: a head, or more of the body that we read."""
        if not self._is_running():
            return True
        cycle = self.cycle
        return cycle.more_body and not (cycle.waiting_for_100_continue or self.flow.read_paused)

    def _make_room(self) -> None:
        """Cut off who has been silent for longest, or else refuse this one."""
        others = cast("Iterable[Connection]", self.connections)
        silent = max(others, key=lambda other: other.silence())
        if silent.silence() > SILENT:
            silent.transport.abort()
        elif len(self.connections) > self.most + _SPARE:
            self.transport.abort()
        else:
            self._refused = True


class Connections:
    """Looks after the connections of a server."""

    def __init__(self, all_of_them: set[Any]) -> None:
        self._all = cast("set[Connection]", all_of_them)
        self._loop = asyncio.get_running_loop()
        self._complained = float("-inf")
        self._loop.set_exception_handler(self._on_exception)
        self._checked = self._loop.time()
        self._timer = self._loop.call_later(1.0, self._check)

    def end(self, error: TalkiesError, *, at_once: bool = False) -> None:
        """Cut all of them off."""
        for connection in list(self._all):
            connection.end(error, **({"linger": 0.0} if at_once else {}))

    def close(self) -> None:
        self._timer.cancel()

    def _check(self) -> None:
        seconds, self._checked = self._loop.time() - self._checked, self._loop.time()
        Connection.most = most_connections()
        if len(self._all) > Connection.most:
            self._complain("too many connections", most=Connection.most)
        for connection in list(self._all):
            connection.check(seconds)
        self._timer = self._loop.call_later(1.0, self._check)

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """asyncio reports a want of descriptors thousands of times a second, each time with a traceback."""
        if "accept() out of system resource" not in context["message"]:
            loop.default_exception_handler(context)
        else:
            self._complain("connections cannot be accepted", reason=str(context["exception"]))

    def _complain(self, what: str, **facts: object) -> None:
        if self._loop.time() - self._complained > _QUIET:
            self._complained = self._loop.time()
            log.error(what, **facts)
