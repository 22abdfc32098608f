"""One transcription: hold the model, stream the file's chunks through its ensemble, merge them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from talkies_kit import wire
from talkies_kit.wire import AsrOptions

from talkies.errors import Unavailable
from talkies.registry import FAMILIES, Model
from talkies.residency import Residency
from talkies.settings import Settings
from talkies.transcript import Chunk, Transcript, merge
from talkies.triton import Triton

_SHORT_BYTES = 2 << 20
"""Uploads up to this size go first (priority 1): half a minute of plain 16-bit audio, two minutes of MP3."""


class Transcriber:
    """Transcribes files through tritonserver."""

    def __init__(self, settings: Settings, triton: Triton, residency: Residency) -> None:
        self._settings = settings
        self._triton = triton
        self._residency = residency

    async def transcribe(
        self, model: Model, path: Path, options: AsrOptions, *, diarize: bool, request_id: str
    ) -> Transcript:
        """The transcript of the audio file at `path`, which lies under the audio roots of `audio_chunks`.

        A request whose engine or server dies is run once more. Raises BadRequest for audio or options that the model
        refuses.
        """
        try:
            chunks = await self._chunks(model, path, options, diarize, request_id)
        except Unavailable:
            chunks = await self._chunks(model, path, options, diarize, request_id)
        return merge(
            chunks,
            task=options.task,
            language=options.language,
            diarized=diarize,
            timestamps=FAMILIES[model.executor].timestamps,
        )

    async def _chunks(
        self, model: Model, path: Path, options: AsrOptions, diarize: bool, request_id: str
    ) -> list[Chunk]:
        size = (await asyncio.to_thread(path.stat)).st_size
        async with self._residency.use(model):
            stream = self._triton.transcribe(
                model.slug,
                path,
                options,
                channels=wire.SPLIT if diarize else wire.MONO,
                priority=1 if size <= _SHORT_BYTES else 2,
                request_id=request_id,
                within=self._settings.request_timeout,
            )
            return [chunk async for chunk in stream]
