"""POST /v1/audio/transcriptions."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from talkies import formats, openapi
from talkies.registry import Registry
from talkies.routers.audio import audio_form, locate
from talkies.routers.disconnect import while_connected
from talkies.routers.events import EventStream
from talkies.settings import Settings
from talkies.sources import Sources
from talkies.transcribe import Transcriber
from talkies.transcript_events import events
from talkies.transcription import TranscriptionFields, plan
from talkies.uploads import receive_form, validate

_LISTS = {
    "timestamp_granularities": "Accepted; verbose_json always has segments and words.",
    "include": "Accepted; there are no log probabilities.",
    "known_speaker_references": "Accepted; who speaks is told by the channel.",
}


def router(settings: Settings, registry: Registry, sources: Sources, transcriber: Transcriber) -> APIRouter:
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
            made = plan(registry, fields)
            request.state.model = made.model.slug
            path = await while_connected(request, locate(sources, form, fields.file_path))
            request_id = request.state.request_id
            if fields.stream:
                updates = transcriber.stream(
                    made.model, path, made.options, diarize=made.diarize, request_id=request_id
                )
                return EventStream(events(made, updates), held.pop_all())
            transcript = await while_connected(
                request,
                transcriber.transcribe(made.model, path, made.options, diarize=made.diarize, request_id=request_id),
            )
        return Response(made.render(transcript), media_type=made.format.media_type)

    return routes


def _openapi() -> dict[str, Any]:
    described = audio_form(TranscriptionFields, formats.FORMATS)
    properties = described["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    for name, meaning in _LISTS.items():
        properties[name] = {"type": "array", "items": {"type": "string"}, "description": meaning}
    for name in [name for name, entry in properties.items() if entry.get("type") == "array"]:
        properties[f"{name}[]"] = properties.pop(name)
    described["responses"]["200"]["content"]["text/event-stream"] = {}
    return described
