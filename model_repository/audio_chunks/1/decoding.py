"""Any audio file to 16 kHz int16, streamed: memory does not grow with the file's length."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray
from talkies_kit.engine import is_want
from talkies_kit.wire import SAMPLE_RATE, InvalidInput

from . import ceiling
from .claims import breaks_off, claimed_seconds, origin
from .clock import Clock
from .levels import Block, conditioned
from .watched import Watched
from .wav import declared_seconds

SHORTEST = 0.1
"""Seconds of audio below which there is nothing to transcribe."""
_FORMATS = (
    "3dostr aa aac aax ac3 ac4 aea aiff alac amr amrnb amrwb ape apm asf au avi avr bink caf dsf dss dts dtshd eac3 "
    "epaf f4v flac flv gsm hca iff iamf ircam ivr kvag lmlm4 loas matroska mlp mmf mov mp3 mpc mpc8 mpeg "
    "mpegts mxf nistsphere nut ogg oma ogv paf pvf qcp qoa rm "
    "rso sbc shn sln smjpeg sol sox svag swf tak truehd tta voc vqf w64 wav webm wsaud wtv wv xa xwma"
)
"""Demuxers that read nothing but the bytes they are given. Playlists (hls, dash, concat, sdp, image sequences) would
read other files and URLs that the caller has no right to."""
_OPTIONS = {"format_whitelist": _FORMATS.replace(" ", ","), "protocol_whitelist": "none"}
_MOST_ERRORS = 100
"""Between packets, before the rest of a file is given up."""


def decode(file: Watched, *, split: bool, max_seconds: float) -> Iterator[NDArray[np.int16]]:
    """Blocks of shape [channels, n] at 16 kHz: one channel, the mix of all, or two when `split`.

    Raises InvalidInput for what is no audio, breaks off early, is longer than `max_seconds`, has not two channels
    when `split` or wants more memory than any recording; OSError or MemoryError where that is not the file's fault.
    """
    try:
        header = declared_seconds(file)
        with av.open(file, options=_OPTIONS, metadata_errors="replace") as container:
            file.check()
            file.header_is_read()
            if not container.streams.audio:
                raise InvalidInput("the file has no audio stream", "file")
            yield from _checked(container, header, split, max_seconds, file.check)
    except (av.error.FFmpegError, MemoryError) as error:
        file.check()
        if isinstance(error, MemoryError):
            if not ceiling.has_room():
                raise
            raise InvalidInput("the file wants more memory than any recording needs", "file") from None
        # Demuxers say EIO of files that break off; of a disk that fails, `check` knows.
        if is_want(error) and error.errno != errno.EIO:
            raise
        reason = error.strerror or type(error).__name__
        raise InvalidInput(f"the file cannot be read as audio ({reason})", "file") from None


def _checked(
    container: Any, header: float | None, split: bool, max_seconds: float, check: Callable[[], None]
) -> Iterator[NDArray[np.int16]]:
    stream = container.streams.best("audio")
    claim = header if header is not None else claimed_seconds(container, stream)
    if claim is not None and claim > max_seconds:
        raise _too_long(max_seconds)
    sound = _Sound(container, stream, split, max_seconds)
    samples = 0
    for block in conditioned(sound.blocks(), mix=not split):
        samples += block.shape[1]
        if samples > max_seconds * SAMPLE_RATE:
            raise _too_long(max_seconds)
        yield block
    check()
    seconds = samples / SAMPLE_RATE
    if not samples:
        raise InvalidInput("the file has no audio in it", "file")
    if claim is not None and breaks_off(container, claim, max(seconds, sound.end), sound.is_damaged_at_the_end):
        raise InvalidInput(f"the file breaks off after {seconds:.1f} of {claim:.1f} seconds", "file")
    if seconds < SHORTEST:
        raise InvalidInput(f"the audio is shorter than {SHORTEST} seconds", "file")


def _too_long(max_seconds: float) -> InvalidInput:
    return InvalidInput(f"the audio is longer than {max_seconds:g} seconds, the most this server takes", "file")


class _Sound:
    """The decodable sound of a stream on the file's own clock; a corrupt packet costs its own frame only."""

    def __init__(self, container: Any, stream: Any, split: bool, max_seconds: float) -> None:
        self._container = container
        self._stream = stream
        self._split = split
        self._clock = Clock(origin(container), max_seconds)
        self.end = 0.0
        """Of the last packet, in seconds from the beginning, as its stamps have it."""
        self.is_damaged_at_the_end = False
        """Whether the last packet could not be decoded."""

    def blocks(self) -> Iterator[Block]:
        """Of two channels, the same twice where there is one, or the mix of more. FP32 at 16 kHz, full scale at 1."""
        setup: tuple[Any, ...] = ()
        resampler = self._resampler(2)
        for frame in self._frames():
            channels = frame.layout.nb_channels
            if self._split and channels != 2:
                raise InvalidInput(
                    f"diarization needs a stereo file, one speaker per channel; this one has {channels} "
                    f"channel{'s' if channels > 1 else ''}",
                    "diarization",
                )
            silence = self._clock.silence_before(frame.time, frame.samples / frame.sample_rate)
            frame.pts = None  # from here on the clock is ours
            if setup != (now := (frame.format.name, frame.layout.name, frame.sample_rate)):
                if setup:  # a file made of several recordings changes its format on the way
                    yield from map(_array, resampler.resample(None))
                resampler = self._resampler(channels)
                setup = now
            if silence:
                yield from _silence(silence)
            yield from map(_array, resampler.resample(frame))
        if setup:
            yield from map(_array, resampler.resample(None))

    def _resampler(self, channels: int) -> AudioResampler:
        return AudioResampler(format="fltp", layout="stereo" if channels == 2 else "mono", rate=SAMPLE_RATE)

    def _frames(self) -> Iterator[AudioFrame]:
        broken: av.error.FFmpegError | None = None
        is_decoded = False
        for packet in self._packets():
            if isinstance(packet, av.error.FFmpegError):
                broken = packet
                continue
            try:
                frames = packet.decode()
            except av.error.EOFError:
                break
            except av.error.InvalidDataError as error:
                broken = error
                self.is_damaged_at_the_end = True
                continue
            if packet.pts is not None and packet.size:
                first = self._container.start_time / av.time_base if self._container.start_time else 0.0
                self.end = max(self.end, float((packet.pts + (packet.duration or 0)) * packet.time_base) - first)
            for frame in frames:
                is_decoded, self.is_damaged_at_the_end = True, False
                yield frame
        if broken and not is_decoded:
            raise broken

    def _packets(self) -> Iterator[Any]:
        """The packets, and the errors between them after which there may be more."""
        for _ in range(_MOST_ERRORS):
            try:
                yield from self._container.demux(self._stream)
                return
            except (av.error.InvalidDataError, av.error.PatchWelcomeError) as error:
                yield error


def _silence(seconds: float) -> Iterator[Block]:
    left = round(seconds * SAMPLE_RATE)
    while left:
        size = min(left, SAMPLE_RATE)
        yield np.zeros((2, size), np.float32)
        left -= size


def _array(frame: AudioFrame) -> Block:
    planes = np.asarray(frame.to_ndarray(), np.float32)
    return np.repeat(planes, 2, axis=0) if len(planes) == 1 else planes
