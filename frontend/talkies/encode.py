"""Speech as the bytes of each audio `response_format`, through FFmpeg's libraries."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream

from talkies.errors import BadRequest

_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
_AAC_FRAME = 1024
"""Samples per AAC frame; also how much an encoder prepends."""
_QUIET = 64
"""Largest sample, of 32767, that counts as silence: -54 dB."""


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How one `response_format` is made."""

    media_type: str
    container: str
    codec: str
    sample_format: str
    bit_rate: int | None = None


FORMATS = {
    "mp3": AudioFormat("audio/mpeg", "mp3", "libmp3lame", "s16p", 128_000),
    "opus": AudioFormat("audio/ogg", "ogg", "libopus", "s16", 64_000),
    "aac": AudioFormat("audio/aac", "adts", "aac", "fltp", 128_000),
    "flac": AudioFormat("audio/flac", "flac", "flac", "s16"),
    "wav": AudioFormat("audio/wav", "wav", "pcm_s16le", "s16"),
    "pcm": AudioFormat("application/octet-stream", "s16le", "pcm_s16le", "s16"),
}


def find(name: str) -> AudioFormat:
    """The format of that name. Raises BadRequest, which lists them."""
    try:
        return FORMATS[name]
    except KeyError:
        raise BadRequest(
            f"Unknown response_format {name!r}; choose one of {', '.join(FORMATS)}.", param="response_format"
        ) from None


async def encode(pcm: AsyncIterable[bytes], format: AudioFormat, rate: int) -> bytes:
    """The complete file of s16le mono `pcm` at `rate` Hz, encoded beside the event loop while the PCM comes in."""
    encoder = Encoder(format, rate)
    async for piece in pcm:
        await asyncio.to_thread(encoder.write, piece)
    return await asyncio.to_thread(encoder.finish)


class Encoder:
    """Encodes mono PCM piece by piece. An encoder that is given up needs no closing."""

    def __init__(self, format: AudioFormat, rate: int) -> None:
        self._file = io.BytesIO()  # seekable, so that headers get their sizes and MP3 its gapless tag
        # bitexact: a plain 44-byte WAV header and no encoder advertisement.
        self._container = av.open(self._file, "w", format=format.container, options={"fflags": "+bitexact"})
        encoded_rate = rate
        if format.codec == "libopus" and rate not in _OPUS_RATES:
            encoded_rate = _OPUS_RATES[-1]
        stream = self._container.add_stream(format.codec, rate=encoded_rate, layout="mono")
        self._stream = cast(AudioStream, stream)
        self._stream.format = format.sample_format
        if format.bit_rate:
            self._stream.bit_rate = format.bit_rate
        self._resampler = av.AudioResampler(format=format.sample_format, layout="mono", rate=encoded_rate)
        self._rate = rate
        self._samples = 0
        self._priming = _Priming() if format.codec == "aac" else None

    def write(self, pcm: bytes) -> None:
        """Encode whole s16le samples."""
        if not pcm:
            return
        samples = np.frombuffer(pcm, "<i2").reshape(1, -1)
        if self._priming:
            self._priming.look_at(samples[0])
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = self._rate
        frame.pts = self._samples
        self._samples += samples.size
        self._resample(frame)

    def finish(self) -> bytes:
        """The file. One of no samples is 20 ms of silence: some containers cannot be empty."""
        if not self._samples:
            self.write(bytes(2 * (self._rate // 50)))
        self._resample(None)
        self._encode(None)
        self._container.close()
        return self._file.getvalue()

    def _resample(self, frame: av.AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            self._encode(resampled)

    def _encode(self, frame: av.AudioFrame | None) -> None:
        for packet in self._stream.encode(frame):
            if not (self._priming and self._priming.drops_next()):
                self._container.mux(packet)


class _Priming:
    """Drops the first AAC packet, the encoder's delay, where nothing is lost by it.

    ADTS has no field for the delay, so players would play it: 43 ms late at 24 kHz. Without that packet a decoder
    cannot rebuild the first frame of the signal, so the packet goes only when that frame is silent, as speech begins.
    """

    def __init__(self) -> None:
        self._looked = 0
        self._silent = True
        self._first = True

    def look_at(self, samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> None:
        head = samples[: max(0, _AAC_FRAME - self._looked)]
        self._silent &= bool((np.abs(head.astype(np.int32)) <= _QUIET).all())
        self._looked += samples.size

    def drops_next(self) -> bool:
        # The encoder keeps back what it has until two frames are there, so the look is over by the first packet.
        first, self._first = self._first, False
        return first and self._silent and self._looked > _AAC_FRAME
