"""The outermost middlewares: a request's id, its log line and its counts, and the answer that nothing else has made.

Neither audio nor transcript nor input text is logged.
"""

from __future__ import annotations

import logging
import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from talkies import metrics, tracing
from talkies.api.answers import answer, report
from talkies.metrics import Metrics

log = structlog.get_logger("talkies.http")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{16,128}")

_WATCHING = frozenset({"/healthz", "/metrics"})
"""What supervisors ask for all the time; of interest only when it fails."""
_READINESS = "/readyz"
"""What balancers ask for, to whom a refusal is an answer as good as another."""

CLIENT_CLOSED_REQUEST = 499
"""Logged, never sent: the client hung up before its answer."""


class RequestLog:
    """Pure-ASGI middleware, the outermost: gives every request an id, counts it, logs one line.

    The id is in `scope["state"]["request_id"]`, the header `x-request-id` and every log line of the request. A client
    or proxy may choose it, if it looks like one. Answers with a Content-Length also say how long they took.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        status = received = sent = 0
        started = time.monotonic()

        async def receive_and_count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                if "content-length" in headers:  # otherwise the work has hardly begun
                    headers["openai-processing-ms"] = str(round((time.monotonic() - started) * 1000))
                    if work.model:
                        headers["server-timing"] = work.server_timing()
            sent += len(message.get("body", b""))
            await send(message)

        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
            tracing.request(headers, scope["method"], request_id) as span,
            metrics.follow() as work,
            self._metrics.in_flight.track_inprogress(),
        ):
            try:
                await self._app(scope, receive_and_count, send_with_id)
            except ClientDisconnect:
                status = CLIENT_CLOSED_REQUEST
            finally:
                seconds = time.monotonic() - started
                route = getattr(scope.get("route"), "path", None)
                self._metrics.answered(route, scope["method"], status, seconds, work, received, sent)
                tracing.answered(span, scope["method"], route, status, work.model)
                token = state.get("token")
                if token:
                    self._metrics.called(token.name, status, work)
                quiet = scope["path"] == _READINESS or (scope["path"] in _WATCHING and status < 400)
                log.log(
                    logging.DEBUG if quiet else logging.INFO,
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    seconds=round(seconds, 3),
                    model=work.model or None,
                    **({"token": token.name} if token else {}),
                )


class Unhandled:
    """Pure-ASGI middleware: answers what no handler took."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_and_know(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_know)
        except ClientDisconnect:
            raise
        except Exception as error:
            if scope["type"] != "http":
                raise
            report(log, error)
            if started:
                raise ConnectionError("the answer broke off") from None
            await answer(error)(scope, receive, send)
