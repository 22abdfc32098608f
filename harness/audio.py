"""Audio that tests make: tones and files in any container, with PyAV."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer


def decode(source: Path | bytes, rate: int = 16_000) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Mono int16 samples at `rate` Hz of anything that PyAV reads."""
    handle = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    resampler = AudioResampler(format="s16", layout="mono", rate=rate)
    with av.open(handle) as container:
        assert isinstance(container, InputContainer)
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames] or [np.zeros(0, np.int16)])


def encode(
    samples: np.ndarray[Any, np.dtype[np.int16]], rate: int, container: str, codec: str, layout: str = "mono"
) -> bytes:
    """`samples` int16 of shape [channels, n] (or [n] for mono) as a file."""
    out = io.BytesIO()
    planes = np.atleast_2d(samples)
    with av.open(out, "w", format=container) as file:
        stream = cast(AudioStream, file.add_stream(codec, rate=rate, layout=layout))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes.T.reshape(1, -1)), format="s16", layout=layout)
        frame.sample_rate = rate
        resampler = AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None)] if planes.size else []:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return out.getvalue()


def encode_float(samples: np.ndarray[Any, np.dtype[Any]], rate: int, container: str, codec: str) -> bytes:
    """Mono samples with full scale at 1 as a file of a codec with more than 16 bits."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = cast(AudioStream, file.add_stream(codec, rate=rate, layout="mono"))
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate = rate
        resampler = AudioResampler(format=stream.format, layout="mono", rate=rate)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return out.getvalue()


def tone(seconds: float, rate: int = 16_000, hertz: float = 440.0) -> np.ndarray[Any, np.dtype[np.int16]]:
    time = np.arange(int(seconds * rate)) / rate
    return (8000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


def video_only() -> bytes:
    """A Matroska file that has a picture and no sound."""
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(5):
            file.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        file.mux(stream.encode(None))
    return out.getvalue()
