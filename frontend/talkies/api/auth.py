"""Who may call: bearer tokens, and web pages of other origins."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Callable, Iterable

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from talkies.errors import BadRequest, Unauthorized

_DRAIN = 10.0
"""Seconds to read past the body of a refused request, for clients that only listen once they have sent everything."""
_POLICY_VIOLATION = 1008


class BearerAuth:
    """Pure-ASGI middleware: everything but `/healthz` and OPTIONS takes one of `tokens`; no route answers OPTIONS.

    `public_lists` lets GETs of the models and voices through. `refused` makes the 401.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Iterable[str],
        public_lists: bool,
        refused: Callable[[Exception], Response],
    ) -> None:
        self._app = app
        self._tokens = [token.encode() for token in tokens]
        self._public_lists = public_lists
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_open(scope) or self._is_allowed(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})  # before it is accepted: a 403
        else:
            await self._refuse(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        if scope["type"] != "http":
            return False
        path, method = scope["path"], scope["method"]
        if path == "/healthz" or method == "OPTIONS":
            return True
        listed = path in ("/v1/models", "/v1/audio/voices") or path.startswith("/v1/models/")
        return self._public_lists and method == "GET" and listed

    def _is_allowed(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(b" ")
        # Every token is compared, so that the time tells nothing about which of them is close.
        matches = [hmac.compare_digest(token.strip(), known) for known in self._tokens]
        return scheme.lower() == b"bearer" and any(matches)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_then_drain(message: Message) -> None:
            if message["type"] == "http.response.body":
                await send({**message, "more_body": True})
                # Closing a connection with unread bytes may take the answer from the client.
                await _drain(scope, receive)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self._refused(Unauthorized())(scope, receive, send_then_drain)


async def _drain(scope: Scope, receive: Receive) -> None:
    if Headers(scope=scope).get("expect", "").lower() == "100-continue":
        return  # nothing comes before we ask for it
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN):
            while (await receive()).get("more_body"):
                pass


class Cors(CORSMiddleware):
    """Lets web pages of `origins` call and read; a preflight of others is refused in our error shape."""

    def __init__(self, app: ASGIApp, *, origins: tuple[str, ...], refused: Callable[[Exception], Response]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST", "PUT", "DELETE"),
            allow_headers=("*",),
            expose_headers=(
                "X-Request-Id", "X-Sample-Rate", "Retry-After", "Server-Timing", "OpenAI-Processing-Ms",
                "Content-Disposition", "Content-Range",
            ),
        )  # fmt: skip
        self._refused = refused

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        error = self._refused(BadRequest(f"{bytes(response.body).decode()}: see TALKIES_CORS_ORIGINS."))
        error.headers["vary"] = response.headers["vary"]
        return error
