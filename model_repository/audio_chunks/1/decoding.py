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
_INEXACT = frozenset(
    ["aac", "ac3", "amr", "amrnb", "amrwb", "asf", "dts", "eac3", "flv", "gsm", "loas", "mp3", "mpeg", "mpegts", "wav"]
)
"""Formats whose duration FFmpeg guesses from the number of bytes."""


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
    declared = _declared_seconds(container, stream) if header is None else header
    if declared is not None and declared > max_seconds:
        raise _too_long(max_seconds)
    samples = 0
    for block in _blocks(container, stream, split):
        samples += block.shape[1]
        if samples > max_seconds * SAMPLE_RATE:
            raise _too_long(max_seconds)
        yield block
    check()
    seconds = samples / SAMPLE_RATE
    if not samples:
        raise InvalidInput("the file has no audio in it", "file")
    if declared is not None and seconds < declared - max(0.5, 0.02 * declared):
        raise InvalidInput(f"the file breaks off after {seconds:.1f} of {declared:.1f} seconds", "file")
    if seconds < SHORTEST:
        raise InvalidInput(f"the audio is shorter than {SHORTEST} seconds", "file")


def _too_long(max_seconds: float) -> InvalidInput:
    return InvalidInput(f"the audio is longer than {max_seconds:g} seconds, the most this server takes", "file")


def _declared_seconds(container: Any, stream: Any) -> float | None:
    """The length that the file itself says it has, None where it says nothing exact."""
    names = set(container.format.name.split(","))
    if names & _INEXACT:
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return float(container.duration / av.time_base)
    return None


def _blocks(container: Any, stream: Any, split: bool) -> Iterator[NDArray[np.int16]]:
    setup: tuple[Any, ...] = ()
    resampler = _resampler(split)
    for frame in _frames(container, stream):
        if split and frame.layout.nb_channels != 2:
            raise InvalidInput(
                f"diarization needs a stereo file, one speaker per channel; this one has {frame.layout.nb_channels} "
                f"channel{'s' if frame.layout.nb_channels > 1 else ''}",
                "diarization",
            )
        frame.pts = None  # gaps in time stamps are not silence, and broken ones no error
        if setup != (now := (frame.format.name, frame.layout.name, frame.sample_rate)):
            if setup:  # a file made of several recordings changes its format on the way
                yield from map(_array, resampler.resample(None))
                resampler = _resampler(split)
            setup = now
        yield from map(_array, resampler.resample(frame))
    if setup:
        yield from map(_array, resampler.resample(None))


def _resampler(split: bool) -> AudioResampler:
    return AudioResampler(format="s16p", layout="stereo" if split else "mono", rate=SAMPLE_RATE)


def _array(frame: AudioFrame) -> NDArray[np.int16]:
    return np.asarray(frame.to_ndarray(), np.int16)


def _frames(container: Any, stream: Any) -> Iterator[AudioFrame]:
    """The decodable frames; a corrupt packet costs its own frame only, as in ffmpeg."""
    broken: av.error.FFmpegError | None = None
    decoded = False
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.EOFError:
            break
        except av.error.InvalidDataError as error:
            broken = error
            continue
        for frame in frames:
            decoded = True
            yield frame
    if broken and not decoded:
        raise broken
