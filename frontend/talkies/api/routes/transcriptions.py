"""POST /v1/audio/transcriptions."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from talkies import metrics
from talkies.api import openapi
from talkies.api.bodies import receive_form, validate
from talkies.api.disconnect import while_connected
from talkies.api.routes.audio_form import audio_form, locate
from talkies.api.services import Services
from talkies.api.streams import EventStream
from talkies.asr import formats
from talkies.asr.events import events_of
from talkies.asr.plan import TranscriptionFields, plan_of

_LISTS = {
    "timestamp_granularities": "Accepted; verbose_json always has segments and words.",
    "known_speaker_references": "Accepted; who speaks is told by the channel.",
}


def router(services: Services) -> APIRouter:
    settings, transcriber = services.settings, services.transcriber
    routes = APIRouter(prefix="/v1/audio", tags=["audio"])

    @routes.post(
        "/transcriptions", openapi_extra=_openapi(), response_class=Response, responses=openapi.responses(*openapi.WORK)
    )
    async def transcriptions(request: Request) -> Response:
        """Transcribe an audio file; exactly one of `file` and `file_path` names it.

        A list is a field sent several times, with or without `[]` behind its name. `diarized_json` implies
        `diarization`.
        """
        async with AsyncExitStack() as held:
            form = await held.enter_async_context(receive_form(request, settings.uploads, settings.max_upload_bytes))
            fields = validate(TranscriptionFields, form.fields)
            plan = plan_of(services.registry, fields, dialect=services.dialect(fields.model))
            metrics.work().model = plan.model.slug
            path = await while_connected(request, locate(request, services.sources, form, fields.file_path))
            held.enter_context(services.sources.hold(path))
            request_id = request.state.request_id
            if fields.stream:
                progress = transcriber.stream(
                    plan.model, path, plan.options, diarize=plan.diarize, request_id=request_id
                )
                return EventStream(events_of(plan, progress), held=held.pop_all())
            transcript = await while_connected(
                request,
                transcriber.transcribe(plan.model, path, plan.options, diarize=plan.diarize, request_id=request_id),
            )
        return Response(await asyncio.to_thread(plan.render, transcript), media_type=plan.media_type)

    return routes


def _openapi() -> dict[str, Any]:
    described = audio_form(TranscriptionFields, formats.FORMATS)
    properties = described["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    for name, meaning in _LISTS.items():
        properties[name] = {"type": "array", "items": {"type": "string"}, "description": meaning}
    for name in [name for name, entry in properties.items() if entry.get("type") == "array"]:
        properties[f"{name}[]"] = properties.pop(name)
    described["responses"]["200"]["content"][EventStream.media_type] = {}
    return described
