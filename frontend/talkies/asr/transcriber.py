"""One transcription: hold the model, stream the file's chunks through its ensemble, put them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import structlog
from talkies_kit import wire
from talkies_kit.wire import AsrOptions

from talkies import metrics
from talkies.errors import NotFound, Unavailable
from talkies.progress import Piece, Progress
from talkies.registry import Model
from talkies.residency import Residency
from talkies.settings import Settings
from talkies.transcript import Chunk, Transcript, merge
from talkies.triton import Triton

log = structlog.get_logger("talkies.transcribe")

_SHORT_BYTES = 2 << 20
"""Uploads up to this size go first (priority 1): half a minute of plain 16-bit audio, two minutes of MP3."""
_LOOK_BACK = 4.0
"""Seconds, above the length of a chunk, that the first step may look at before it settles where a chunk is."""


class Transcriber:
    """Transcribes files through tritonserver."""

    def __init__(self, settings: Settings, triton: Triton, residency: Residency) -> None:
        self._settings = settings
        self._triton = triton
        self._residency = residency
        self._horizon = max(settings.vad_chunk_threshold, settings.vad_max_speech) + _LOOK_BACK

    async def transcribe(
        self, model: Model, path: Path, options: AsrOptions, *, diarize: bool, request_id: str
    ) -> Transcript:
        """The transcript of the audio file at `path`, which lies under the audio roots of `audio_chunks`.

        A request whose engine or server dies is run once more. Raises BadRequest for audio or options that the model
        refuses.
        """
        async with aclosing(self._chunks(model, path, options, diarize, request_id)) as chunks:
            made = [chunk async for chunk in chunks]
        return self._finish(model, made, options, diarize)

    async def stream(
        self, model: Model, path: Path, options: AsrOptions, *, diarize: bool, request_id: str
    ) -> AsyncGenerator[list[Piece] | Transcript]:
        """As `transcribe`, but in pieces: a list for every chunk, often empty, and the whole Transcript at the end."""
        how = _how(model, options, diarize)
        progress = Progress(horizon=self._horizon, **how)
        made: list[Chunk] = []
        async with aclosing(self._chunks(model, path, options, diarize, request_id)) as chunks:
            async for chunk in chunks:
                made.append(chunk)
                yield progress.add(chunk)
        yield progress.finish()
        yield self._finish(model, made, options, diarize)

    def _finish(self, model: Model, made: list[Chunk], options: AsrOptions, diarize: bool) -> Transcript:
        transcript = merge(made, task=options.task, **_how(model, options, diarize))
        if self._settings.log_content:
            log.info("transcript", model=model.slug, text=transcript.text)
        return transcript

    async def _chunks(
        self, model: Model, path: Path, options: AsrOptions, diarize: bool, request_id: str
    ) -> AsyncGenerator[Chunk]:
        """Every chunk of the file once, in any order; a second run only gives those that the first one did not."""
        made: set[int] = set()  # a file is cut into the same chunks each time
        for last_try in (False, True):
            try:
                async with aclosing(self._run(model, path, options, diarize, request_id)) as chunks:
                    async for chunk in chunks:
                        if chunk.index not in made:
                            made.add(chunk.index)
                            work = metrics.work()
                            work.heard = max(work.heard, chunk.duration)  # the last one's is the file's
                            yield chunk
                return
            except Unavailable:
                if last_try:
                    raise

    async def _run(
        self, model: Model, path: Path, options: AsrOptions, diarize: bool, request_id: str
    ) -> AsyncGenerator[Chunk]:
        try:
            size = (await asyncio.to_thread(path.stat)).st_size
        except FileNotFoundError:  # DELETE of a staged file meanwhile
            raise NotFound("The file is no longer there.", param="file_path") from None
        async with (
            self._residency.use(model),
            aclosing(
                self._triton.transcribe(
                    model.slug,
                    path,
                    options,
                    channels=wire.SPLIT if diarize else wire.MONO,
                    priority=1 if size <= _SHORT_BYTES else 2,
                    request_id=request_id,
                    within=self._settings.request_timeout,
                )
            ) as chunks,
        ):
            async for chunk in chunks:
                yield chunk


def _how(model: Model, options: AsrOptions, diarize: bool) -> dict[str, Any]:
    """How the chunks become a transcript."""
    return {
        "language": options.language,
        "diarized": diarize,
        "timestamps": model.executor.timestamps,
        "written": (options.target_language or "en") if options.task == "translate" else "",
    }
