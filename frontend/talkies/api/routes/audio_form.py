"""What the routes that take audio have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talkies.errors import BadRequest
from talkies.formats import Format
from talkies.sources import Sources
from talkies.transcription import TranslationFields
from talkies.uploads import Form


async def locate(sources: Sources, form: Form, file_path: str) -> Path:
    """The audio of a request, which names it once. Raises BadRequest, NotFound."""
    if (form.file is None) == (not file_path):
        raise BadRequest("Send exactly one of file and file_path.", param="file")
    if form.file is None:
        return await sources.locate(file_path)
    if not form.size:
        raise BadRequest("The file is empty.", param="file")
    return form.file


def audio_form(fields: type[TranslationFields], formats: Mapping[str, Format]) -> dict[str, Any]:
    """The OpenAPI description of a route that takes these fields and answers in these formats."""
    schema = fields.model_json_schema()
    schema["properties"]["file"] = {"type": "string", "format": "binary", "description": "The audio, in any format."}
    made: dict[str, Any] = {format.media_type.partition(";")[0]: {} for format in formats.values()}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}},
        "responses": {"200": {"description": "The transcript.", "content": made}},
    }
