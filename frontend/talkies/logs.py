"""JSON lines on standard error, and the one line per request, without audio, transcript or input text."""

from __future__ import annotations

import logging
import re
import sys
import time
import traceback
import uuid
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from talkies import metrics
from talkies.metrics import Metrics
from talkies.settings import Settings

log = structlog.get_logger("talkies.http")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{16,128}")

CLIENT_CLOSED_REQUEST = 499
"""Logged, never sent: the client hung up before its answer."""


def configure(settings: Settings) -> None:
    """Send structlog's and the standard library's records to standard error, as JSON."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    for chatty in ("httpx", "httpcore", "mcp", "sse_starlette", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))


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
        given = Headers(scope=scope).get("x-request-id", "")
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
            metrics.follow() as work,
            self._metrics.in_flight.track_inprogress(),
        ):
            try:
                await self._app(scope, receive_and_count, send_with_id)
            except ClientDisconnect:
                status = CLIENT_CLOSED_REQUEST
            finally:
                work.model = state.get("model") or work.model
                seconds = time.monotonic() - started
                route = getattr(scope.get("route"), "path", None)
                self._metrics.answered(route, scope["method"], status, seconds, work, received, sent)
                log.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    seconds=round(seconds, 3),
                    model=work.model or None,
                )


class Unhandled:
    """Pure-ASGI middleware: answers what no handler took with what `failed` makes of it."""

    def __init__(self, app: ASGIApp, *, failed: Callable[[Exception], Response]) -> None:
        self._app = app
        self._failed = failed

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
            # Where it happened, but not the message: it may quote what the user said or wrote.
            log.error("unhandled", error=type(error).__name__, at=traceback.format_tb(error.__traceback__))
            if started:
                raise ConnectionError("the answer broke off") from None
            await self._failed(error)(scope, receive, send)
