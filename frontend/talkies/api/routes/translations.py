"""POST /v1/audio/translations."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from talkies import metrics
from talkies.api import openapi
from talkies.api.bodies import receive_form, validate
from talkies.api.disconnect import while_connected
from talkies.api.routes.audio_form import audio_form, locate
from talkies.api.services import Services
from talkies.asr import formats
from talkies.asr.plan import TranslationFields, plan_of


def router(services: Services) -> APIRouter:
    settings = services.settings
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
            plan = plan_of(services.registry, fields, task="translate", dialect=services.dialect(fields.model))
            metrics.work().model = plan.model.slug
            path = await while_connected(request, locate(request, services.sources, form, fields.file_path))
            with services.sources.hold(path):
                transcript = await while_connected(
                    request,
                    services.transcriber.transcribe(
                        plan.model, path, plan.options, diarize=False, request_id=request.state.request_id
                    ),
                )
        return Response(await asyncio.to_thread(plan.render, transcript), media_type=plan.media_type)

    return routes
