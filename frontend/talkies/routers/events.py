"""Server-sent events that end with the client's connection."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from talkies.errors import TalkiesError
from talkies.routers.disconnect import while_connected

log = structlog.get_logger("talkies.events")

_KEEP_ALIVE = 15.0
"""Seconds of silence after which a comment is sent: many proxies cut a connection that is silent for 60 s."""

Events = AsyncGenerator[list[dict[str, Any]]]


class EventStream(Response):
    """Sends every event as `data: {json}`, and `data: {"error": …}` as the last when making them fails.

    The headers wait for the first list of events, which may be empty: a failure before it is raised and becomes an
    ordinary answer. The work goes on at its own pace when the client reads slowly, and ends when it hangs up; `held`
    is closed after the work, whatever ends it.
    """

    media_type = "text/event-stream"

    def __init__(self, events: Events, held: AsyncExitStack) -> None:
        # Proxies would collect what is meant to be read at once.
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await while_connected(Request(scope, receive), self._run(send))

    async def _run(self, send: Send) -> None:
        # Unbounded, for text is small; a bound would let a slow reader keep others from the model.
        made: asyncio.Queue[list[dict[str, Any]] | None] = asyncio.Queue()
        work = asyncio.create_task(self._make(made))
        try:
            if (first := await made.get()) is None:
                return await work
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await _body(send, *map(_data, first))
            while True:
                try:
                    async with asyncio.timeout(_KEEP_ALIVE):
                        events = await made.get()
                except TimeoutError:
                    await _body(send, b": keep-alive\n\n")
                    continue
                if events is None:
                    break
                await _body(send, *map(_data, events))
            await asyncio.wait((work,))
            if error := work.exception():
                await _body(send, _data(_failure(error)))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _make(self, made: asyncio.Queue[list[dict[str, Any]] | None]) -> None:
        try:
            async with aclosing(self._events):
                async for events in self._events:
                    made.put_nowait(events)
        finally:
            made.put_nowait(None)


async def _body(send: Send, *parts: bytes) -> None:
    if parts:
        await send({"type": "http.response.body", "body": b"".join(parts), "more_body": True})


def _data(event: Mapping[str, Any]) -> bytes:
    # ASCII, because some clients take U+2028 for the end of the line.
    return f"data: {json.dumps(event, separators=(',', ':'))}\n\n".encode()


def _failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, TalkiesError):
        log.warning("stream broke off", error=type(error).__name__, code=error.code)
        return error.body
    # Where it happened, but not the message: it may quote what the user said.
    log.error("unhandled", error=type(error).__name__, at=traceback.format_tb(error.__traceback__))
    return TalkiesError("Internal server error.").body
