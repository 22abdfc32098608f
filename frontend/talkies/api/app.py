"""The HTTP application, composed of its services."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from talkies import __version__
from talkies.api import openapi
from talkies.api.answers import answer
from talkies.api.auth import BearerAuth, Cors
from talkies.api.head import HeadAsGet
from talkies.api.mcp import endpoint
from talkies.api.request_log import RequestLog, Unhandled
from talkies.api.routes import (
    files,
    health,
    home,
    memory,
    metrics,
    models,
    speech,
    transcriptions,
    translations,
    voices,
)
from talkies.api.services import Services
from talkies.api.slashes import TrailingSlash
from talkies.errors import TalkiesError


def create_app(services: Services) -> FastAPI:
    """The application over these services."""
    settings = services.settings
    app = FastAPIOffline(  # its pages of documentation bring their scripts
        title="talkies",
        version=__version__,
        description="OpenAI-compatible speech: transcription and synthesis on NVIDIA Triton.",
        responses=openapi.responses(500),
        redirect_slashes=False,
    )
    for kind in (TalkiesError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answer)
    app.add_middleware(HeadAsGet)
    if services.keyring:
        app.add_middleware(
            BearerAuth, keyring=services.keyring, quotas=services.quotas, public_lists=settings.public_lists
        )
    app.add_middleware(Unhandled)
    if settings.cors_origins:
        app.add_middleware(Cors, origins=settings.cors_origins)
    app.add_middleware(RequestLog, metrics=services.metrics)
    app.add_middleware(TrailingSlash)
    for routes in (transcriptions, translations, speech, voices, models, files, endpoint, memory, metrics):
        app.include_router(routes.router(services), responses=openapi.responses(401, 403, 429))
    app.include_router(health.router(services))
    app.include_router(home.router())
    return app


async def _answer(_: Request, error: Exception) -> JSONResponse:
    return answer(error)
