"""POST /v1/audio/translations."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from talkies import formats, openapi
from talkies.registry import Registry
from talkies.routers.audio import audio_form, locate
from talkies.routers.disconnect import while_connected
from talkies.settings import Settings
from talkies.sources import Sources
from talkies.transcribe import Transcriber
from talkies.transcription import TranslationFields, plan
from talkies.uploads import receive_form, validate


def router(settings: Settings, registry: Registry, sources: Sources, transcriber: Transcriber) -> APIRouter:
    routes = APIRouter(prefix="/v1/audio", tags=["audio"])
    offered = {name: format for name, format in formats.FORMATS.items() if not format.diarized}

    @routes.post(
        "/translations",
        openapi_extra=audio_form(TranslationFields, offered),
        response_class=Response,
        responses=openapi.responses(*openapi.WORK),
    )
    async def translations(request: Request) -> Response:
        """Write in English what is said in an audio file; exactly one of `file` and `file_path` names it."""
        async with receive_form(request, settings.uploads, settings.max_upload_bytes) as form:
            fields = validate(TranslationFields, form.fields)
            made = plan(registry, fields, task="translate")
            request.state.model = made.model.slug
            path = await while_connected(request, locate(sources, form, fields.file_path))
            transcript = await while_connected(
                request,
                transcriber.transcribe(
                    made.model, path, made.options, diarize=False, request_id=request.state.request_id
                ),
            )
        return Response(made.render(transcript), media_type=made.format.media_type)

    return routes
