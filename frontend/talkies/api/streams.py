"""Answers that go out while they are made: server-sent events, and audio as it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any, ClassVar

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from talkies.api.answers import body, report
from talkies.api.disconnect import while_connected
from talkies.api.read_ahead import ReadAhead

log = structlog.get_logger("talkies.streams")

_KEEP_ALIVE = 15.0
"""Seconds of silence after which events have a comment: many proxies cut a connection that is silent for 60 s."""
_AHEAD = 4 << 20
"""Bytes that may wait for a slow reader: all the text there ever is, 4 minutes of MP3, 87 s of WAV at 24 kHz. What fits
in gives its place in the model back when it is made, not when it is read."""

Events = AsyncGenerator[Sequence[Mapping[str, Any]]]


class Stream(Response):
    """A body that is sent as its pieces come, and whose making ends when the client hangs up.

    The headers wait for the first piece, which may be empty: a failure before it is raised and becomes an ordinary
    answer. `held` is closed after the work, whatever ends it.
    """

    keep_alive: ClassVar[bytes] = b""
    """What says in a silence that the answer goes on; empty where nothing could."""

    def __init__(
        self,
        pieces: AsyncGenerator[bytes],
        *,
        headers: Mapping[str, str] | None = None,
        held: AsyncExitStack | None = None,
    ) -> None:
        # Proxies would collect what is meant to be read or heard at once.
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no", **(headers or {})})
        del self.headers["content-length"]
        self._pieces = pieces
        self._held = held or AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await while_connected(Request(scope, receive), self._send_all(send))

    def failure(self, error: Exception) -> bytes | None:
        """The end of a body that breaks off; None where only a broken connection can tell."""
        return None

    async def _send_all(self, send: Send) -> None:
        async with ReadAhead(self._pieces, _AHEAD) as ahead:
            piece = await ahead.next()
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while piece is not None:
                if piece:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                silence = asyncio.timeout(_KEEP_ALIVE if self.keep_alive else None)
                try:
                    async with silence:
                        piece = await ahead.next()
                except Exception as error:
                    if silence.expired():
                        piece = self.keep_alive
                        continue
                    report(log, error)
                    if (end := self.failure(error)) is None:
                        return  # without its last message: the server then cuts the connection
                    await send({"type": "http.response.body", "body": end, "more_body": True})
                    break
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStream(Stream):
    """Every event as `data: {json}`; when making them fails the last one is of type `error`."""

    media_type = "text/event-stream"
    keep_alive = b": keep-alive\n\n"

    def __init__(
        self, events: Events, *, headers: Mapping[str, str] | None = None, held: AsyncExitStack | None = None
    ) -> None:
        super().__init__(_rendered(events), headers=headers, held=held)

    def failure(self, error: Exception) -> bytes:
        return _data({"type": "error", **body(error)})


class AudioStream(Stream):
    """Encoded audio. A file that breaks off must not look whole."""

    def __init__(self, audio: AsyncGenerator[bytes], media_type: str, *, headers: Mapping[str, str]) -> None:
        self.media_type = media_type
        super().__init__(audio, headers=headers)


async def _rendered(events: Events) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        async for some in events:
            yield b"".join(map(_data, some))


def _data(event: Mapping[str, Any]) -> bytes:
    # ASCII, because some clients take U+2028 for the end of the line.
    return f"data: {json.dumps(event, separators=(',', ':'))}\n\n".encode()
