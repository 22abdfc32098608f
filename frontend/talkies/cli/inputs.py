"""What `transcribe` and `bulk` share: the formats, and inputs that are files here or URLs that the server fetches."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from talkies.cli.client import Client, Refused, Transcription, Watch


class TextFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    VERBOSE_JSON = "verbose_json"
    DIARIZED_JSON = "diarized_json"
    SRT = "srt"
    VTT = "vtt"

    @property
    def suffix(self) -> str:
        return {self.TEXT: ".txt", self.SRT: ".srt", self.VTT: ".vtt"}.get(self, ".json")


FORMATS = f"{', '.join(TextFormat)}."


def is_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def stem(source: str) -> str:
    """The name of a path or URL without folders and suffix, as a file may be called."""
    if not is_url(source):
        return Path(source).stem
    parts = urlsplit(source)
    name = Path(unquote(parts.path.rstrip("/").rpartition("/")[2]).replace("/", "_")).stem or parts.netloc
    return "".join(c if c.isprintable() and c != "\\" else "_" for c in name)


def form(model: str, format: TextFormat, language: str, diarize: bool, **more: str | list[str]) -> dict[str, Any]:
    """The text fields of a request, those that are set."""
    fields = {
        "model": model,
        "response_format": format.value,
        "language": language,
        "diarization": "true" if diarize else "",
        **more,
    }
    return {name: value for name, value in fields.items() if value}


async def transcribe_source(client: Client, source: str, request: Transcription, watch: Watch | None = None) -> str:
    """The transcript of a file or URL. Raises Refused, for a file that cannot be read too, and Unreachable."""
    if is_url(source):
        return await client.transcribe(request.of(source), watch=watch)
    path = Path(source)
    # The name goes into a header, the path may hold bytes that are no text.
    name = os.fsencode(path.name).decode(errors="replace")
    try:
        with await _open(path) as audio:
            return await client.transcribe(request, (name, _sized(audio)), watch)
    except OSError as error:
        raise Refused(f"{error.strerror}.") from None


async def _open(path: Path) -> BinaryIO:
    """Opened in a thread, for a pipe waits for its writer; closed if nobody waits for it any more."""
    # No task, for the end of the run cancels those: the thread would open the file for nobody.
    opening: asyncio.Future[BinaryIO] = asyncio.get_running_loop().run_in_executor(None, _opened, path)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


def _close(opening: asyncio.Future[BinaryIO]) -> None:
    if not opening.cancelled() and not opening.exception():
        opening.result().close()


def _sized(audio: BinaryIO) -> BinaryIO | bytes:
    """A file as it is; the content of a pipe, which has no length beforehand, as an upload needs it."""
    return audio if stat.S_ISREG(os.fstat(audio.fileno()).st_mode) else audio.read()


def with_newline(transcript: str) -> str:
    return transcript if transcript.endswith("\n") else transcript + "\n"


@asynccontextmanager
async def group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises what went wrong as it is, not wrapped."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
