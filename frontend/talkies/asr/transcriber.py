"""One transcription: hold the model, stream the file's chunks through its ensemble, put them together."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import structlog
from talkies_kit import wire
from talkies_kit.wire import AsrOptions

from talkies import metrics
from talkies.asr.length import is_short
from talkies.asr.progress import Progress, Step
from talkies.asr.transcript import Transcript, merge
from talkies.engines.attempts import attempts
from talkies.engines.residency import Residency
from talkies.engines.triton import ChunkAnswer, Triton
from talkies.errors import NotFound, Unavailable
from talkies.registry import Model
from talkies.settings import Settings

log = structlog.get_logger("talkies.transcribe")

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
            answers = [chunk async for chunk in chunks]
        return self._finish(model, answers, options, diarize)

    async def stream(
        self, model: Model, path: Path, options: AsrOptions, *, diarize: bool, request_id: str
    ) -> AsyncGenerator[Step | Transcript]:
        """As `transcribe`, in steps: what every chunk settles, and the whole Transcript at the end."""
        how = _how(model, options, diarize)
        progress = Progress(horizon=self._horizon, **how)
        answers: list[ChunkAnswer] = []
        async with aclosing(self._chunks(model, path, options, diarize, request_id)) as chunks:
            async for chunk in chunks:
                answers.append(chunk)
                yield Step(progress.add(chunk), progress.seconds)
        yield Step(progress.finish(), progress.seconds)
        yield self._finish(model, answers, options, diarize)

    def _finish(self, model: Model, answers: list[ChunkAnswer], options: AsrOptions, diarize: bool) -> Transcript:
        transcript = merge(answers, task=options.task, **_how(model, options, diarize))
        if self._settings.log_content:
            log.info("transcript", model=model.slug, text=transcript.text)
        return transcript

    async def _chunks(
        self, model: Model, path: Path, options: AsrOptions, diarize: bool, request_id: str
    ) -> AsyncGenerator[ChunkAnswer]:
        """Every chunk of the file once, in any order; a second run only gives those that the first one did not."""
        given: set[int] = set()  # a file is cut into the same chunks each time
        # The engine takes chunks of one id for one file, and remembers its language; a client may send its id twice.
        file_id = f"{request_id}.{secrets.token_hex(4)}"
        for attempt in attempts(self._settings.request_timeout):
            try:
                async with aclosing(self._run(model, path, options, diarize, file_id, attempt.within)) as chunks:
                    async for chunk in chunks:
                        if chunk.index not in given:
                            given.add(chunk.index)
                            work = metrics.work()
                            work.heard = max(work.heard, chunk.duration)  # the last one's is the file's
                            yield chunk
                return
            except Unavailable as error:
                attempt.forgive(error)

    async def _run(
        self, model: Model, path: Path, options: AsrOptions, diarize: bool, request_id: str, within: float
    ) -> AsyncGenerator[ChunkAnswer]:
        try:
            short = await asyncio.to_thread(is_short, path)
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
                    priority=1 if short else 2,
                    request_id=request_id,
                    within=within,
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
