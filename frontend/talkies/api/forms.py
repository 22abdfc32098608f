"""A form, however it was sent: its text fields, and the file that came with it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from pydantic_core import from_json

from talkies import refusals
from talkies.errors import BadRequest

MAX_FIELDS = 100
MAX_FIELD_BYTES = 64 << 10


@dataclass(slots=True)
class Form:
    """A received form."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    """All values of each text field, in order; `x[]` and `x` are the same."""
    file: Path | None = None
    """Where the part `file` lies until the form's context ends."""
    size: int = 0
    """Of the file, in bytes."""

    def add(self, name: str, value: str) -> None:
        self.fields.setdefault(name.removesuffix("[]"), []).append(value)


def url_encoded(content: bytes) -> Form:
    """Raises BadRequest for more or longer fields than any request needs."""
    if content.count(b"&") >= MAX_FIELDS:
        raise too_many_fields()
    form = Form()
    for name, value in parse_qsl(content.decode(errors="replace"), keep_blank_values=True):
        if len(value.encode()) > MAX_FIELD_BYTES:
            raise too_long(name)
        form.add(name, value)
    return form


def of_json(content: bytes, path: Path) -> Form:
    """The fields of an object; the audio in `input_audio`, `{"data": base64, "format": "wav"}`, is written to `path`.

    Raises BadRequest, and what the machine lacks.
    """
    try:
        value = from_json(content)
    except ValueError:
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.")
    form = Form()
    audio = value.pop("input_audio", None)
    for name, entry in value.items():
        for item in entry if isinstance(entry, list) else [entry]:
            parts = {f"{name}[{key}]": part for key, part in item.items()} if isinstance(item, dict) else {name: item}
            for full_name, part in parts.items():
                if isinstance(part, str | int | float):  # others are of no use here, null counts as not sent
                    form.add(full_name, str(part).lower() if isinstance(part, bool) else str(part))
    if sum(map(len, form.fields.values())) > MAX_FIELDS:
        raise too_many_fields()
    for name, values in form.fields.items():
        if any(len(text.encode()) > MAX_FIELD_BYTES for text in values):
            raise too_long(name)
    if audio is not None:
        sound = _decoded(audio)
        with refusals.writing(path.parent):
            path.write_bytes(sound)
        form.file, form.size = path, len(sound)
    return form


def _decoded(audio: Any) -> bytes:
    data = audio.get("data") if isinstance(audio, dict) else None
    if isinstance(data, str):
        try:
            return base64.b64decode(data.partition(",")[2] if data.startswith("data:") else data, validate=True)
        except ValueError:
            pass
    raise BadRequest("input_audio must be an object whose data is the file in base64.", param="input_audio")


def too_many_fields() -> BadRequest:
    return BadRequest(f"The form has more than {MAX_FIELDS} fields.")


def too_long(name: str) -> BadRequest:
    return BadRequest(f"The field is larger than {MAX_FIELD_BYTES} bytes.", param=name)
