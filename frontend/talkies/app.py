"""The HTTP application, composed of its services; every error answer is made here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from talkies import __version__, mcp, openapi
from talkies.auth import BearerAuth, Cors
from talkies.errors import TalkiesError
from talkies.logs import RequestLog, Unhandled
from talkies.metrics import Metrics
from talkies.registry import Registry
from talkies.residency import Residency
from talkies.routers import files, health, metrics, models, resources, speech, transcriptions, translations, voices
from talkies.settings import Settings
from talkies.sources import Sources
from talkies.staging import Staging
from talkies.synthesize import Synthesizer
from talkies.transcribe import Transcriber
from talkies.voices import Voices


def create_app(
    settings: Settings,
    registry: Registry,
    transcriber: Transcriber,
    synthesizer: Synthesizer,
    residency: Residency,
    counters: Metrics,
    staging: Staging,
    sources: Sources,
    *,
    device: str,
) -> FastAPI:
    """The application over these services; `device` is what `/healthz` reports."""
    app = FastAPI(
        title="talkies",
        version=__version__,
        description="OpenAI-compatible speech: transcription and synthesis on NVIDIA Triton.",
        responses=openapi.responses(500),
    )
    for kind in (TalkiesError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answer)
    if tokens := [token.get_secret_value() for token in settings.auth_token]:
        app.add_middleware(BearerAuth, tokens=tokens, public_lists=settings.public_lists, refused=answer)
    app.add_middleware(Unhandled, failed=answer)
    if settings.cors_origins:
        app.add_middleware(Cors, origins=settings.cors_origins, refused=answer)
    app.add_middleware(RequestLog, metrics=counters)
    catalogue = Voices(settings, registry)
    for router in (
        transcriptions.router(settings, registry, sources, transcriber),
        translations.router(settings, registry, sources, transcriber),
        speech.router(registry, catalogue, synthesizer),
        voices.router(catalogue),
        models.router(settings, registry),
        files.router(settings, staging),
        mcp.router(settings, registry, transcriber, residency, sources, staging),
        resources.router(registry, residency),
        metrics.router(counters),
    ):
        app.include_router(router, responses=openapi.responses(401))
    app.include_router(health.router(registry, residency, device))
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
