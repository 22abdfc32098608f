"""Request bodies within bounds: multipart streamed to disk, JSON up to a limit. Nothing large is held in memory."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, get_origin

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError, model_validator
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from talkies import refusals
from talkies.api.forms import MAX_FIELD_BYTES, MAX_FIELDS, Form, of_json, too_long, too_many_fields, url_encoded
from talkies.api.json_meter import JsonMeter
from talkies.errors import BadRequest, TalkiesError, TooLarge

_FILE = "file"
_URL_ENCODED = "application/x-www-form-urlencoded"
_JSON = "application/json"
_MAX_FIELDS_BYTES = MAX_FIELDS * MAX_FIELD_BYTES
_MAX_URL_ENCODED = 2 << 20
_MAX_OVERHEAD = _MAX_FIELDS_BYTES + (16 << 20)
"""What a body may hold beside the file: text, and voices of known speakers (OpenAI's four of ten seconds)."""
_READ_PAST = frozenset({"known_speaker_references"})
"""Fields of any length that are of no use here."""
_MAX_JSON_BYTES = 8 << 20
_AT_ONCE = 64 << 10
"""Bytes of JSON or of a URL-encoded form that are parsed on the event loop; more are parsed beside it."""
_BLOCK = 16 << 10
"""Bytes that are handed on together, however small the pieces in which they come."""

_UNSENT = ("", "null")
"""What serializers write for a field that nobody has set."""

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class JsonBody(BaseModel):
    """A JSON body, of which a field that is null counts as not sent."""

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        return {name: entry for name, entry in value.items() if entry is not None} if isinstance(value, dict) else value


@asynccontextmanager
async def receive_form(request: Request, folder: Path, max_file_bytes: int) -> AsyncIterator[Form]:
    """The request's form; its file lies in `folder` as long as the context lasts, whatever ends it.

    A form without a file may come URL-encoded, as HTTP libraries send it, a small one as JSON; others are multipart.

    Raises BadRequest for a body that is no sound form, TooLarge beyond `max_file_bytes` (URL-encoded: 2 MiB, JSON: 8),
    OutOfSpace and Unavailable for what the machine lacks, and Starlette's ClientDisconnect.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == _URL_ENCODED:
        yield await _parsed(url_encoded, await _whole(request, _MAX_URL_ENCODED))
        return
    path = folder / uuid.uuid4().hex
    if content_type == _JSON:
        content = await _whole(request, _MAX_JSON_BYTES, JsonMeter().feed)
        try:
            yield await asyncio.to_thread(of_json, content, path)
        finally:
            path.unlink(missing_ok=True)
        return
    too_large = TooLarge(f"The upload is larger than {max_file_bytes} bytes.", param=_FILE)
    body = _Body(request, max_file_bytes + _MAX_OVERHEAD, too_large)
    receiver = _Receiver(_boundary(request), path, max_file_bytes, too_large)
    try:
        try:
            async for piece in body:
                receiver.parse(piece)
                await receiver.save()
            receiver.finish()
        except FormParserError:
            await body.discard(max_file_bytes)
            raise BadRequest("The body is not a sound multipart form.") from None
        except TalkiesError:
            await body.discard(max_file_bytes)
            raise
        finally:
            receiver.close()
        yield receiver.form
    finally:
        receiver.path.unlink(missing_ok=True)


@asynccontextmanager
async def receive_stream(request: Request, limit: int) -> AsyncIterator[AsyncIterable[bytes]]:
    """The request's body of at most `limit` bytes, in pieces; beyond, they raise TooLarge."""
    body = _Body(request, limit, TooLarge(f"The body is larger than {limit} bytes."))
    try:
        yield body
    except TalkiesError:
        await body.discard(limit)
        raise


async def receive_json(request: Request, model: type[M]) -> M:
    """The request's JSON body as `model`.

    Raises RequestValidationError, TooLarge beyond 8 MiB, BadRequest for more values than any request needs.
    """
    content = await _whole(request, _MAX_JSON_BYTES, JsonMeter().feed)
    try:
        return await _parsed(model.model_validate_json, content)
    except ValidationError as error:
        raise _invalid(error) from None


async def _whole(request: Request, limit: int, check: Callable[[bytes], None] | None = None) -> bytes:
    """The body of at most `limit` bytes, whose pieces `check` may refuse as they come. Raises TooLarge."""
    content = bytearray()
    async with receive_stream(request, limit) as pieces:
        async for piece in pieces:
            if check:
                check(piece)
            content += piece
    return bytes(content)


async def _parsed(parse: Callable[[bytes], T], content: bytes) -> T:
    """What `parse` makes of the content, which nobody else waits for."""
    return await asyncio.to_thread(parse, content) if len(content) > _AT_ONCE else parse(content)


def validate(model: type[M], fields: Mapping[str, Sequence[str]]) -> M:
    """The text fields of a form as `model`; of one that is no list there, the last value counts, and empty ones and
    "null" count as not sent. Raises RequestValidationError."""
    lists = {name for name, info in model.model_fields.items() if get_origin(info.annotation) is list}
    sent = {name: [value for value in values if value not in _UNSENT] for name, values in fields.items()}
    plain: dict[str, Any] = {n: values if n in lists else values[-1] for n, values in sent.items() if values}
    for name in [name for name in plain if name.endswith("]")]:  # an entry of an object, as `chunking_strategy[type]`
        whole, _, entry = name[:-1].partition("[")
        if isinstance(known := plain.setdefault(whole, {}), dict):
            known[entry] = plain[name]
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> RequestValidationError:
    """What FastAPI makes of a bad body, less the body itself."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    return RequestValidationError([{**entry, "loc": ("body", *entry["loc"])} for entry in errors])


class _Body:
    """A body of at most `limit` bytes, whatever Content-Length says about it; beyond, iterating raises `too_large`."""

    def __init__(self, request: Request, limit: int, too_large: TooLarge) -> None:
        self._limit = limit
        self._too_large = too_large
        self._stream = request.stream()
        self._awaits_go = request.headers.get("expect", "").lower() == "100-continue"
        """The client sends nothing before we read."""
        declared = request.headers.get("content-length", "")
        self._declared = int(declared) if declared.isdecimal() else 0
        self._received = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._declared > self._limit:
            raise self._too_large
        block = bytearray()
        async for piece in self._stream:
            self._received += len(piece)
            if self._received > self._limit:
                raise self._too_large
            block += piece
            if len(block) >= _BLOCK:
                yield bytes(block)
                block.clear()
        if block:
            yield bytes(block)

    async def discard(self, most: int) -> None:
        """Read on for up to `most` bytes or 10 s, for clients that only listen once they have sent everything."""
        if self._awaits_go and not self._received:
            return
        try:
            async with asyncio.timeout(10):
                async for piece in self._stream:
                    most -= len(piece)
                    if most < 0:
                        return
        except TimeoutError:
            return


class _Receiver:
    """Turns the parser's callbacks into a form and the pending bytes of its file."""

    def __init__(self, boundary: bytes, path: Path, max_file_bytes: int, too_large: TooLarge) -> None:
        self.path = path
        self.form = Form()
        self._max_file_bytes = max_file_bytes
        self._too_large = too_large
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_header_field": self._header_name_data,
                "on_header_value": self._header_value_data,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )
        self._output: BinaryIO | None = None
        self._pending: list[bytes] = []
        self._parts = 0
        self._complete = False

    def parse(self, data: bytes) -> None:
        self._parser.write(data)

    async def save(self) -> None:
        """Write what `parse` found of the file."""
        if self.form.file and (self._pending or not self._output):
            pending, self._pending = self._pending, []
            with refusals.writing(self.path.parent):
                # Not in the thread: of a caller that is cancelled, it would open the file after its removal.
                self._output = self._output or self.path.open("xb")
                await asyncio.to_thread(self._output.writelines, pending)

    def finish(self) -> None:
        self._parser.finalize()
        if not self._complete:
            raise BadRequest("The multipart form ends before its closing boundary.")

    def close(self) -> None:
        if self._output:
            with refusals.writing(self.path.parent):
                self._output.close()

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_FIELDS:
            raise too_many_fields()
        self._disposition = b""
        self._header_name = self._header_value = b""
        self._text = bytearray()

    def _header_name_data(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_data(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise BadRequest("A part of the form has no name.")
        self._name = options[b"name"].decode(errors="replace")
        self._is_upload = b"filename" in options or b"filename*" in options
        # Files of other names are read past.
        self._kept = not self._is_upload and self._name.removesuffix("[]") not in _READ_PAST
        if self._name != _FILE:
            return
        if not self._is_upload:
            raise BadRequest("The part 'file' must be a file: it has no filename.", param=_FILE)
        if self.form.file:
            raise BadRequest("The form has more than one part 'file'.", param=_FILE)
        self.form.file = self.path

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        size = end - start
        if self._name == _FILE:
            self.form.size += size
            if self.form.size > self._max_file_bytes:
                raise self._too_large
            self._pending.append(data[start:end])
        elif self._kept:
            if len(self._text) + size > MAX_FIELD_BYTES:
                raise too_long(self._name)
            self._text += data[start:end]

    def _part_end(self) -> None:
        if self._kept:
            try:
                self.form.add(self._name, self._text.decode())
            except UnicodeDecodeError:
                raise BadRequest("The field is not UTF-8 text.", param=self._name) from None

    def _end(self) -> None:
        self._complete = True


def _boundary(request: Request) -> bytes:
    content_type, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if content_type != b"multipart/form-data" or not 0 < len(boundary) <= 256:
        raise BadRequest("The body must be multipart/form-data with a boundary.")
    return boundary
