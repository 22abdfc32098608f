"""Who may call: bearer tokens with what each may do, and web pages of other origins."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from talkies import metrics
from talkies.api.answers import answer
from talkies.api.quotas import Quotas
from talkies.api.scopes import needed
from talkies.errors import BadRequest, Forbidden, TalkiesError, Unauthorized
from talkies.tokens import Keyring, Token

_DRAIN = 10.0
"""Seconds to read past the body of a refused request, for clients that only listen once they have sent everything."""
_POLICY_VIOLATION = 1008


class BearerAuth:
    """Pure-ASGI middleware: all but `/healthz`, `/readyz` and OPTIONS takes a token of the keyring.

    No route answers OPTIONS. The token is in `scope["state"]["token"]`. `public_lists` lets GET and HEAD of the models
    and voices through without one.
    """

    def __init__(self, app: ASGIApp, *, keyring: Keyring, quotas: Quotas, public_lists: bool) -> None:
        self._app = app
        self._keyring = keyring
        self._quotas = quotas
        self._public_lists = public_lists

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_open(scope):
            await self._app(scope, receive, send)
            return
        try:
            token = self._token(scope)
            scope.setdefault("state", {})["token"] = token
            if scope["type"] == "http":
                self._admit(token, scope)
        except TalkiesError as error:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION})  # before it is accepted: a 403
            else:
                await _refuse(error, scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            work = metrics.work()
            self._quotas.spend(token, work.heard + work.spoken)

    def _is_open(self, scope: Scope) -> bool:
        if scope["type"] != "http":
            return False
        path, method = scope["path"], scope["method"]
        if path in ("/healthz", "/readyz") or method == "OPTIONS":
            return True
        listed = path in ("/v1/models", "/v1/audio/voices", "/v1/audio/models") or path.startswith("/v1/models/")
        return self._public_lists and method in ("GET", "HEAD") and listed

    def _token(self, scope: Scope) -> Token:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        # What Azure's and some other clients send; each of them is all of the key.
        keys = [value for name, value in scope["headers"] if name in (b"api-key", b"x-api-key")]
        if not given and len(keys) == 1:
            given = [b"bearer " + keys[0]]
        scheme, _, secret = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        token = self._keyring.find(secret.strip()) if scheme.lower() == b"bearer" else None
        if token is None:
            raise Unauthorized
        return token

    def _admit(self, token: Token, scope: Scope) -> None:
        permission = needed(scope["method"], scope["path"])
        if permission and permission not in token.scopes:
            raise Forbidden(token.name, permission)
        self._quotas.admit(token)


async def _refuse(error: TalkiesError, scope: Scope, receive: Receive, send: Send) -> None:
    async def send_then_drain(message: Message) -> None:
        if message["type"] == "http.response.body":
            await send({**message, "more_body": True})
            # Closing a connection with unread bytes may take the answer from the client.
            await _drain(scope, receive)
            message = {"type": "http.response.body", "body": b""}
        await send(message)

    await answer(error)(scope, receive, send_then_drain)


async def _drain(scope: Scope, receive: Receive) -> None:
    if Headers(scope=scope).get("expect", "").lower() == "100-continue":
        return  # nothing comes before we ask for it
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN):
            while (await receive()).get("more_body"):
                pass


class Cors(CORSMiddleware):
    """Lets web pages of `origins` call and read; a preflight of others is refused in our error shape."""

    def __init__(self, app: ASGIApp, *, origins: tuple[str, ...]) -> None:
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

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        error = answer(BadRequest(f"{bytes(response.body).decode()}: see TALKIES_CORS_ORIGINS."))
        error.headers["vary"] = response.headers["vary"]
        return error
