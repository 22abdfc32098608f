"""The file's own clock: holes and late starts are silence, broken stamps are not, and no sound is taken away."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import pairwise
from typing import cast

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.audio import tone
from harness.engine_modules import load

clock = load("audio_chunks", "clock")
decoding = load("audio_chunks", "decoding")
watched = load("audio_chunks", "watched")
FRAME = 0.02


def place(stamps: list[float | None], origin: float | None = None, longest: float = 20_000.0) -> list[float]:
    """Where each of these frames of 20 ms begins."""
    made, at, begins = clock.Clock(origin, longest), 0.0, []
    for stamp in stamps:
        at += made.silence_before(stamp, FRAME)
        begins.append(at)
        at += FRAME
    return begins


@settings(deadline=None)
@given(
    st.floats(0, 1e6),
    st.lists(
        st.tuples(st.integers(1, 50), st.floats(2 * clock.HOLE, clock.LONGEST - clock.HOLE)), min_size=1, max_size=5
    ),
    st.floats(0, 0.4 * clock.HOLE),
)
def test_holes_are_silence_whatever_the_clock_began_with(
    begin: float, parts: list[tuple[int, float]], jitter: float
) -> None:
    stamps: list[float | None] = []
    at, wanted = 0.0, []
    for i, (count, hole) in enumerate(parts):
        at += hole if i else 0.0
        for _ in range(count):
            stamps.append(begin + at + (jitter if len(stamps) % 2 else 0.0))
            wanted.append(at)
            at += FRAME
    assert np.allclose(place(list(stamps)), wanted, atol=2 * clock.HOLE)


@settings(deadline=None)
@given(st.lists(st.none() | st.floats(-1e9, 1e9), min_size=1, max_size=60), st.none() | st.floats(0, 1e6))
def test_any_stamps_keep_order_and_bounds(stamps: list[float | None], origin: float | None) -> None:
    begins = place(stamps, origin, longest=100.0)
    assert all(later >= earlier + FRAME - 1e-9 for earlier, later in pairwise(begins))
    assert begins[-1] + FRAME <= max(100.0, len(stamps) * FRAME) + 1e-6


def test_a_late_start_is_silence_only_beside_pictures() -> None:
    assert place([4.9, 4.92])[0] == 0
    assert place([4.9, 4.92], origin=0.0)[0] == pytest.approx(4.9)
    assert place([100_000.0, 100_000.02], origin=0.0)[0] == 0  # 28 hours: a broken stamp


def test_a_clock_that_starts_anew_goes_on() -> None:
    assert place([0.0, 5.0, 0.0, 0.02, 1.0]) == pytest.approx([0.0, 5.0, 5.02, 5.04, 6.02])


def test_lost_packets_add_up() -> None:
    stamps = [i * FRAME for i in range(1000) if i % 10]
    assert place(list(stamps))[-1] == pytest.approx(stamps[-1] - FRAME, abs=1.5 * clock.HOLE)


def file_with(holes: dict[int, float], container: str, codec: str, *, late: float = 0.0, video: bool = False) -> bytes:
    """3 s of a tone of which each second begins after a hole."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        sound = cast(AudioStream, file.add_stream(codec, rate=48_000, layout="mono"))
        if video:
            pictures = file.add_stream("mpeg4", rate=10)
            pictures.width, pictures.height, pictures.pix_fmt = 64, 64, "yuv420p"
            for i in range(int(10 * (late + 3 + sum(holes.values())))):
                picture = av.VideoFrame(64, 64, "yuv420p")
                picture.pts = i
                file.mux(pictures.encode(picture))
            file.mux(pictures.encode(None))
        size = sound.codec_context.frame_size or 960
        samples = tone(3, 48_000)
        at = late
        for begin in range(0, len(samples) - size, size):
            if begin // 48_000 != (begin - size) // 48_000:
                at += holes.get(begin // 48_000, 0.0)
            frame = av.AudioFrame.from_ndarray(samples[None, begin : begin + size], format="s16", layout="mono")
            frame.sample_rate = 48_000
            frame.time_base = Fraction(1, 48_000)
            frame.pts = round(at * 48_000) + begin
            converted = av.AudioResampler(format=sound.format, layout="mono", rate=48_000).resample(frame)
            for part in converted:
                part.pts = frame.pts
                file.mux(sound.encode(part))
        file.mux(sound.encode(None))
    return out.getvalue()


def loud_seconds(data: bytes) -> tuple[float, list[bool]]:
    """The length, and of each tenth of a second whether there is sound."""
    opened = watched.Watched(io.BytesIO(data))
    pcm = np.concatenate(list(decoding.decode(opened, split=False, max_seconds=3600.0)), axis=1)[0]
    tenths = pcm[: len(pcm) // 1600 * 1600].reshape(-1, 1600).astype(np.float64)
    return len(pcm) / 16_000, list(np.sqrt((tenths**2).mean(axis=1)) > 1000)


CONTAINERS = [("matroska", "libopus"), ("webm", "libopus"), ("mp4", "aac"), ("mov", "aac"), ("mpegts", "aac")]


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
@settings(max_examples=4, deadline=None)
@given(st.floats(0.5, 30), st.floats(0, 20))
def test_files_with_holes(container: str, codec: str, first: float, second: float) -> None:
    seconds, loud = loud_seconds(file_with({1: first, 2: second}, container, codec))
    assert seconds == pytest.approx(3 + first + second, abs=0.3)
    assert sum(loud) == pytest.approx(30, abs=4)
    assert not any(loud[13 : int(10 * first) + 8])


@pytest.mark.parametrize(("container", "codec"), [("matroska", "libopus"), ("mp4", "aac"), ("mpegts", "aac")])
@pytest.mark.parametrize("video", [False, True])
def test_sound_that_starts_late(container: str, codec: str, video: bool) -> None:
    seconds, loud = loud_seconds(file_with({}, container, codec, late=4.9, video=video))
    assert seconds == pytest.approx(7.9 if video else 3.0, abs=0.3)
    assert sum(loud) == pytest.approx(30, abs=4) and any(loud[:5]) is not video
