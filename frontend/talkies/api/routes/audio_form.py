"""What the routes that take audio have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request

from talkies.api import openapi
from talkies.api.forms import Form
from talkies.api.scopes import require
from talkies.asr.formats import Format
from talkies.asr.plan import TranslationFields
from talkies.errors import BadRequest
from talkies.files.locate import Sources, is_staged


async def locate(request: Request, sources: Sources, form: Form, file_path: str) -> Path:
    """The audio of a request, which names it once. Raises BadRequest, NotFound, and Forbidden for a staged file unless
    its token may read those."""
    if (form.file is None) == (not file_path):
        raise BadRequest("Send exactly one of file and file_path.", param="file")
    if form.file is None:
        if is_staged(file_path):
            require(request.state, "files")
        return await sources.locate(file_path)
    if not form.size:
        raise BadRequest("The file is empty.", param="file")
    return form.file


def audio_form(fields: type[TranslationFields], formats: Mapping[str, Format]) -> dict[str, Any]:
    """The OpenAPI description of a route that takes these fields and answers in these formats."""
    schema = fields.model_json_schema()
    schema["properties"]["file"] = {"type": "string", "format": "binary", "description": "The audio, in any format."}
    content: dict[str, Any] = {format.media_type.partition(";")[0]: {} for format in formats.values()}
    bodies = [openapi.schema(format.body) for format in formats.values() if format.body]
    content["application/json"] = {"schema": {"anyOf": bodies}}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}},
        "responses": {"200": {"description": "The transcript.", "content": content}},
    }
