"""What the OpenAPI document says of answers that are no route's return value: errors, and bodies that are no JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

_MEANINGS = {
    400: "A field or the audio is wrong; `error.param` names the field.",
    401: "The bearer token is missing or wrong.",
    403: "The token may not do this: `detail` names the scope.",
    404: "There is no such thing: `detail` names it.",
    413: "The body is too large.",
    416: "The range lies outside the file.",
    422: "A field is missing or of the wrong type; `detail` lists all of them.",
    429: "The token has sent too many requests this minute, or used its audio for today.",
    500: "The model failed, or talkies did.",
    503: "Not now: the queue is full (`overloaded`, with Retry-After) or the model cannot be loaded.",
    504: "The work took longer than TALKIES_REQUEST_TIMEOUT.",
    507: "The disk is full.",
}
WORK = (400, 404, 413, 422, 503, 504, 507)
"""What a request for transcription or speech may be refused with."""


class Fault(BaseModel):
    """The error as OpenAI's clients read it."""

    model_config = ConfigDict(extra="forbid")

    message: str
    type: str
    param: str | None
    code: str | None


class FieldFault(BaseModel):
    """One field of a body that could not be read."""

    model_config = ConfigDict(extra="forbid")

    type: str
    loc: list[str | int]
    msg: str


class ErrorBody(BaseModel):
    """Every error of every route."""

    model_config = ConfigDict(extra="forbid")

    detail: str | list[FieldFault] = Field(description="The message again, or with 422 all faults of the body.")
    error: Fault


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these errors."""
    return {status: {"model": ErrorBody, "description": _MEANINGS[status]} for status in statuses}


def schema(shape: type) -> dict[str, Any]:
    """The JSON schema of a type, everything in one place: a body described by hand has no components."""
    whole = TypeAdapter(shape).json_schema()
    parts = whole.pop("$defs", {})
    return {key: _resolved(value, parts) for key, value in whole.items()}


def _resolved(node: Any, parts: Mapping[str, Any]) -> Any:
    match node:
        case {"$ref": str(reference)}:
            return _resolved(parts[reference.rpartition("/")[2]], parts)
        case dict():
            return {key: _resolved(value, parts) for key, value in node.items()}
        case list():
            return [_resolved(value, parts) for value in node]
        case _:
            return node


def binary(description: str, media_types: Iterable[str]) -> dict[str, Any]:
    """A 200 answer of bytes in one of several types, for `openapi_extra`."""
    schema = {"type": "string", "format": "binary"}
    return {"200": {"description": description, "content": {media: {"schema": schema} for media in media_types}}}
