"""Speech as the bytes of each audio `response_format`, whole or as it is made, through FFmpeg's libraries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import IO, cast

import av
import numpy as np
from av.audio.stream import AudioStream

_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
_OGG_PAGE = "100000"
"""Microseconds of audio in a page of a streamed file. The muxer keeps two pages back; smaller ones cost more bytes."""
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


async def encode(pcm: AsyncGenerator[bytes], format: AudioFormat, rate: int, sink: IO[bytes]) -> None:
    """Write the complete file of s16le mono `pcm` at `rate` Hz into `sink`, beside the event loop while the PCM comes.

    `pcm` is closed at the end.
    """
    encoder = Encoder(format, rate, sink)
    async with aclosing(pcm):
        async for piece in pcm:
            await asyncio.to_thread(encoder.write, piece)
    await asyncio.to_thread(encoder.finish)


async def stream(pcm: AsyncGenerator[bytes], format: AudioFormat, rate: int) -> AsyncGenerator[bytes]:
    """The file of s16le mono `pcm` at `rate` Hz in pieces as the PCM comes in, which is closed with this generator.

    Its header cannot know the end: WAV says 0xFFFFFFFF for its sizes, FLAC "unknown", MP3 has no gapless tag.
    """
    encoder = Encoder(format, rate)
    async with aclosing(pcm):
        async for piece in pcm:
            if made := await asyncio.to_thread(encoder.write, piece):
                yield made
    if rest := await asyncio.to_thread(encoder.finish):
        yield rest


class Encoder:
    """Encodes mono PCM piece by piece. An encoder that is given up needs no closing."""

    def __init__(self, format: AudioFormat, rate: int, sink: IO[bytes] | None = None) -> None:
        """The file is streamed, or written into `sink`, its sizes in the header and MP3's gapless tag with it."""
        self._pipe = _Pipe() if sink is None else None
        streamed = sink is None
        # bitexact: a plain 44-byte WAV header and no encoder advertisement.
        container_options, codec_options = {"fflags": "+bitexact"}, {}
        if streamed:
            container_options["fflags"] += "+flush_packets"
            if format.container == "ogg":
                container_options["page_duration"] = _OGG_PAGE
            if format.codec == "libmp3lame":
                codec_options["reservoir"] = "0"  # frames that stand alone, so that the first can be dropped
        self._container = av.open(self._pipe or sink, "w", format=format.container, options=container_options)
        encoded_rate = rate
        if format.codec == "libopus" and rate not in _OPUS_RATES:
            encoded_rate = _OPUS_RATES[-1]
        stream = self._container.add_stream(format.codec, rate=encoded_rate, layout="mono", options=codec_options)
        self._stream = cast(AudioStream, stream)
        self._stream.format = format.sample_format
        if format.bit_rate:
            self._stream.bit_rate = format.bit_rate
        self._resampler = av.AudioResampler(format=format.sample_format, layout="mono", rate=encoded_rate)
        self._rate = rate
        self._samples = 0
        self._priming: _Priming | None = None
        if format.codec == "aac":
            self._priming = _Priming(packets=1, samples=1024)
        elif format.codec == "libmp3lame" and streamed:
            self._priming = _Priming(packets=2, samples=1152)

    def write(self, pcm: bytes) -> bytes:
        """Encode whole s16le samples; the bytes of the file that they made, none if it is not streamed."""
        if pcm:
            self._add(np.frombuffer(pcm, "<i2").reshape(1, -1))
        return self._pipe.take() if self._pipe else b""

    def finish(self) -> bytes:
        """The rest of the file, nothing if it is not streamed.

        A file of no samples is 20 ms of silence: some containers cannot be empty.
        """
        if not self._samples:
            self._add(np.zeros((1, self._rate // 50), np.int16))
        self._resample(None)
        self._encode(None)
        self._container.close()
        return self._pipe.take() if self._pipe else b""

    def _add(self, samples: np.ndarray[tuple[int, int], np.dtype[np.int16]]) -> None:
        if self._priming:
            self._priming.look_at(samples[0])
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = self._rate
        frame.pts = self._samples
        self._samples += samples.shape[1]
        self._resample(frame)

    def _resample(self, frame: av.AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            self._encode(resampled)

    def _encode(self, frame: av.AudioFrame | None) -> None:
        for packet in self._stream.encode(frame):
            # A packet of no duration is padding: LAME may end with one.
            if not (self._priming and (self._priming.drops_next() or packet.duration == 0)):
                self._container.mux(packet)


class _Pipe:
    """A sink without `seek`, which FFmpeg takes for a pipe."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        """What was written since the last call."""
        taken, self._written = bytes(self._written), bytearray()
        return taken


class _Priming:
    """Drops the first packets, the encoder's delay, where nothing is lost by it.

    ADTS has no field for the delay, nor has MP3 that cannot seek back to its gapless tag, so players would play it:
    43 ms of AAC at 24 kHz. Without those packets a decoder cannot rebuild the first frame of the signal, so they go
    only when the signal is silent for as long, as speech begins.
    """

    def __init__(self, *, packets: int, samples: int) -> None:
        """`samples` are in `packets`."""
        self._packets = packets
        self._head = samples
        self._looked = 0
        self._silent = True
        self._started = False

    def look_at(self, samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> None:
        head = samples[: max(0, self._head - self._looked)]
        self._silent &= bool((np.abs(head.astype(np.int32)) <= _QUIET).all())
        self._looked += samples.size

    def drops_next(self) -> bool:
        if not self._started:
            # An encoder keeps back what it has until more than the head is there, so the look is over by now.
            self._started = True
            if not self._silent or self._looked <= self._head:
                self._packets = 0
        self._packets -= 1
        return self._packets >= 0
