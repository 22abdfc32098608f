"""Every error as the answer of an HTTP request: status, headers and one body for all of them."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from talkies import refusals
from talkies.errors import TalkiesError

_UNEXPECTED = "Internal server error."


def answer(error: Exception) -> JSONResponse:
    """Any error in both shapes: `detail`, and the `error` object that OpenAI's clients read."""
    headers: Mapping[str, str] = {}
    error = refusals.answer_to(error) or error
    match error:
        case TalkiesError():
            status, headers = error.status, error.headers
        case RequestValidationError():
            status = 422
        case HTTPException():
            status, headers = error.status_code, error.headers or {}
        case _:
            # The same request would fail again, and clients would send its file again.
            status, headers = 500, {"x-should-retry": "false"}
    return JSONResponse(body(error), status, dict(headers))


def body(error: BaseException) -> dict[str, Any]:
    """The JSON of an error's answer; of what nobody expected it tells nothing."""
    error = refusals.answer_to(error) or error
    match error:
        case TalkiesError():
            return _body(error.message, error.type, error.param, error.code)
        case RequestValidationError():
            detail = [{key: entry[key] for key in ("type", "loc", "msg")} for entry in error.errors()]
            place = ".".join(str(part) for part in detail[0]["loc"][1:])
            message = f"{place}: {detail[0]['msg']}" if place else detail[0]["msg"]
            return _body(message, "invalid_request_error", place or None, "validation_error") | {"detail": detail}
        case HTTPException():
            code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
            kind = "invalid_request_error" if error.status_code < 500 else "server_error"
            return _body(error.detail, kind, None, code)
        case _:
            return _body(_UNEXPECTED, "server_error", None, "internal_error")


def report(log: structlog.typing.FilteringBoundLogger, error: BaseException) -> None:
    """Log what ended an answer in the middle, or what nobody expected."""
    if isinstance(error, TalkiesError):
        log.warning("broke off", error=type(error).__name__, code=error.code)
    else:
        # Where it happened, but not the message: it may quote what the user said or wrote.
        code = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
        log.error("unhandled", error=type(error).__name__, code=code, at=traceback.format_tb(error.__traceback__))


def _body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    return {"detail": message, "error": {"message": message, "type": kind, "param": param, "code": code}}
