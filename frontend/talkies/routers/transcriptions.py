"""POST /v1/audio/transcriptions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from talkies_kit.wire import AsrOptions

from talkies import formats, staging
from talkies.errors import BadRequest
from talkies.registry import Modality, Model, Registry
from talkies.routers.disconnect import while_connected
from talkies.settings import Settings
from talkies.transcribe import Transcriber
from talkies.uploads import Form, receive_form, validate

_TRANSLATING = frozenset({"translate", "s2t_translation", "ast"})
"""What `default_task` of a registry entry calls translation."""


class TranscriptionForm(BaseModel):
    """The text fields; an empty one counts as not sent, fields unknown here are ignored."""

    model: str = Field(description="A slug of GET /v1/models.")
    file_path: str = Field("", description="A staged file to transcribe instead of `file`.")
    language: str = Field("", description="ISO 639-1 code of the speech; the model's default or detection otherwise.")
    response_format: str = Field("json", description=f"One of {', '.join(formats.FORMATS)}.")
    prompt: str = Field("", description="Text that sets vocabulary and style, where the model can.")
    temperature: float = Field(0.0, ge=0, le=1, description="Sampling temperature, where the model can.")
    diarization: bool = Field(False, description="Transcribe the left and right channel as two speakers.")


def router(settings: Settings, registry: Registry, transcriber: Transcriber) -> APIRouter:
    routes = APIRouter(prefix="/v1/audio", tags=["audio"])

    @routes.post("/transcriptions", openapi_extra=_openapi(), response_class=Response)
    async def transcriptions(request: Request) -> Response:
        """Transcribe an audio file; exactly one of `file` and `file_path` names it."""
        async with receive_form(request, settings.uploads, settings.max_upload_bytes) as received:
            form = validate(TranscriptionForm, {name: value for name, value in received.fields.items() if value})
            model = registry.find(form.model)
            request.state.model = model.slug
            if model.modality is not Modality.ASR:
                raise BadRequest(f"{model.slug} speaks; choose a model with modality asr.", param="model")
            format = formats.find(form.response_format)
            options = _options(model, form, format)
            path = await asyncio.to_thread(_audio, settings.files, received, form.file_path)
            transcript = await while_connected(
                request,
                transcriber.transcribe(
                    model, path, options, diarize=form.diarization, request_id=request.state.request_id
                ),
            )
        return Response(format.render(transcript, form.temperature), media_type=format.media_type)

    return routes


def _audio(files: Path, received: Form, file_path: str) -> Path:
    if (received.file is None) == (not file_path):
        raise BadRequest("Send exactly one of file and file_path.", param="file")
    if received.file is None:
        if file_path.lower().startswith(("http://", "https://")):
            raise BadRequest(
                "file_path must name a staged file; URLs are not supported by this version.", param="file_path"
            )
        return staging.find(files, file_path)
    if not received.size:
        raise BadRequest("The file is empty.", param="file")
    return received.file


def _options(model: Model, form: TranscriptionForm, format: formats.Format) -> AsrOptions:
    translating = model.default_task in _TRANSLATING
    return AsrOptions(
        language=_language(model, form.language) or model.default_source_lang,
        task="translate" if translating else "transcribe",
        target_language=model.default_target_lang if translating else "",
        prompt=form.prompt,
        temperature=form.temperature,
        word_timestamps=format.words,
        # The turns of a dialogue are put in order by their times.
        text_only=not (format.times or form.diarization),
    )


def _language(model: Model, asked: str) -> str:
    """The model's code for a language that may be written "EN" or "en-US"."""
    code = asked.strip().lower().replace("_", "-")
    for candidate in (code, code.partition("-")[0]):
        if not candidate or candidate in model.languages:
            return candidate
    raise BadRequest(
        f"{model.slug} has no language {asked!r}; its languages are {', '.join(model.languages)}.", param="language"
    )


def _openapi() -> dict[str, Any]:
    schema = TranscriptionForm.model_json_schema()
    schema["properties"]["file"] = {"type": "string", "format": "binary", "description": "The audio, in any format."}
    schema["properties"]["timestamp_granularities[]"] = {
        "type": "array",
        "items": {"type": "string"},
        "description": "Accepted, with or without brackets; verbose_json always has segments and words.",
    }
    formats_made: dict[str, Any] = {form.media_type.partition(";")[0]: {} for form in formats.FORMATS.values()}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}},
        "responses": {"200": {"description": "The transcript.", "content": formats_made}},
    }
