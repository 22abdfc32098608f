"""The MCP endpoint, /v1/mcp: streamable HTTP without sessions, one answer per POST."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from sse_starlette.sse import AppStatus
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from talkies.api.json_meter import JsonMeter
from talkies.api.mcp.tools import Tools
from talkies.api.services import Services
from talkies.errors import Overloaded, TooLarge
from talkies.settings import Settings

_LARGE = 4 << 20
"""Messages beyond this many bytes wait for a turn: the library holds a message several times over, in memory."""

_PATH = "/v1/mcp"
_LARGE_AT_ONCE = 2
_TURN_WAIT = 30.0


def router(services: Services) -> APIRouter:
    settings = services.settings
    # Base64 takes 4/3; the rest is for line breaks in it and the message around it.
    limit = settings.max_upload_bytes * 3 // 2 + (64 << 10)
    # Without `security_settings` any Host is welcome: the service has whatever name its operator gave it.
    manager = StreamableHTTPSessionManager(Tools(services).server, stateless=True, max_request_body_size=limit)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        # Answers in progress end within the drain timeout, like those of every route, not with the first SIGTERM.
        AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]
        async with manager.run():
            yield

    routes = APIRouter(lifespan=lifespan)
    endpoint = Endpoint(manager.handle_request, settings, limit)
    # No GET and no DELETE: without sessions there is nothing to listen to and nothing to end.
    routes.add_route(_PATH, endpoint, methods=["POST"])  # type: ignore[arg-type]
    return routes


class Turn:
    """A request's place among the few that may hold a large file in memory."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._held = False

    async def take_for(self, size: int) -> None:
        """Wait until a message of `size` bytes may be held; once is enough. Raises Overloaded after half a minute."""
        if self._held or size <= _LARGE:
            return
        try:
            async with asyncio.timeout(_TURN_WAIT):
                await self._places.acquire()
        except TimeoutError:
            raise Overloaded("Too many large files are on their way; use /v1/files or try again in a moment.") from None
        self._held = True

    def end(self) -> None:
        if self._held:
            self._places.release()


class Endpoint:
    """What the library does not check before it reads a message: who sends it, how much memory and time it takes."""

    def __init__(self, app: ASGIApp, settings: Settings, limit: int) -> None:
        self._app = app
        self._origins = frozenset(settings.cors_origins)
        self._limit = limit
        self._max_file = settings.max_upload_bytes
        self._route = Route(_PATH, self)
        self._places = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self._route  # FastAPI notes it of its own ones: requests are counted by it
        headers = Headers(scope=scope)
        self._check_origin(headers.get("origin"))
        if headers.get("content-length", "").isdecimal() and int(headers["content-length"]) > self._limit:
            raise self._too_large()
        turn = Turn(self._places)
        scope.setdefault("state", {})["turn"] = turn
        meter = JsonMeter()
        received, complete, gone, answered = 0, False, False, False

        async def bounded() -> Message:
            nonlocal received, complete, gone
            message = await receive()
            if message["type"] == "http.disconnect":
                gone = not answered
                if not complete:
                    raise ClientDisconnect
            elif not complete:
                received += len(message.get("body", b""))
                meter.feed(message.get("body", b""))
                if received > self._limit:
                    raise self._too_large()
                await turn.take_for(received)
                complete = not message.get("more_body", False)
            return message

        async def watched(message: Message) -> None:
            nonlocal answered
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, bounded, watched)
        finally:
            turn.end()
        if gone:
            raise ClientDisconnect  # the library takes a hang-up for an end

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"The message is larger than {self._limit} bytes; put_file takes files of up to {self._max_file} bytes."
        )

    def _check_origin(self, origin: str | None) -> None:
        """Keep web pages out that no one allowed; only browsers send an Origin.

        The page's own host does not count as allowed: a page can give its host name the address of this machine (DNS
        rebinding), and then that is what the browser sends.
        """
        if origin and not self._origins & {origin, "*"}:
            raise HTTPException(403, "Web pages of this origin may not call the API; TALKIES_CORS_ORIGINS lists those.")
