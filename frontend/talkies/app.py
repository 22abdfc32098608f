"""The HTTP application, composed of its services; every error answer is made here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from talkies import __version__
from talkies.errors import TalkiesError
from talkies.logs import RequestLog
from talkies.registry import Registry
from talkies.residency import Residency
from talkies.routers import health, models, resources, speech, transcriptions, voices
from talkies.settings import Settings
from talkies.synthesize import Synthesizer
from talkies.transcribe import Transcriber
from talkies.voices import Voices


def create_app(
    settings: Settings,
    registry: Registry,
    transcriber: Transcriber,
    synthesizer: Synthesizer,
    residency: Residency,
    *,
    device: str,
) -> FastAPI:
    """The application over these services; `device` is what `/healthz` reports."""
    app = FastAPI(
        title="talkies",
        version=__version__,
        description="OpenAI-compatible speech: transcription and synthesis on NVIDIA Triton.",
    )
    for kind in (TalkiesError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answer)
    app.add_middleware(RequestLog, failed=answer)
    catalogue = Voices(settings, registry)
    app.include_router(transcriptions.router(settings, registry, transcriber))
    app.include_router(speech.router(registry, catalogue, synthesizer))
    app.include_router(voices.router(catalogue))
    app.include_router(models.router(settings, registry))
    app.include_router(resources.router(registry, residency))
    app.include_router(health.router(registry, device))
    return app


def answer(error: Exception) -> JSONResponse:
    """Any error in both shapes: `detail`, and the `error` object that OpenAI's clients read."""
    match error:
        case TalkiesError():
            return _response(error.status, error.message, error.type, error.param, error.code, error.headers)
        case RequestValidationError():
            detail = [{key: entry[key] for key in ("type", "loc", "msg")} for entry in error.errors()]
            place = ".".join(str(part) for part in detail[0]["loc"][1:])
            message = f"{place}: {detail[0]['msg']}" if place else detail[0]["msg"]
            return _response(422, message, "invalid_request_error", place or None, "validation_error", {}, detail)
        case HTTPException():
            code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
            kind = "invalid_request_error" if error.status_code < 500 else "server_error"
            return _response(error.status_code, error.detail, kind, None, code, error.headers or {})
        case _:
            # The same request would fail again, and clients would send its file again.
            headers = {"x-should-retry": "false"}
            return _response(500, "Internal server error.", "server_error", None, "internal_error", headers)


def _response(
    status: int,
    message: str,
    kind: str,
    param: str | None,
    code: str | None,
    headers: Mapping[str, str],
    detail: list[dict[str, Any]] | None = None,
) -> JSONResponse:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"detail": detail or message, "error": error}, status, dict(headers))


async def _answer(_: Request, error: Exception) -> JSONResponse:
    return answer(error)
