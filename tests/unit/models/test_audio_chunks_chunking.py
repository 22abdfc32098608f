"""From decoded blocks to chunks: whole short audio, interleaved channels, the full duration, bounded memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engine_modules import load

chunking = load("audio_chunks", "chunking")
cutting = load("audio_chunks", "cutting")
KNOBS = cutting.Knobs.of(threshold=0.5, max_speech=28, min_silence_ms=500, pad_ms=200)
RATE = 16_000


def loud(pcm: np.ndarray) -> np.ndarray:
    """A listener that takes every window with a large sample for speech."""
    return (np.abs(pcm.reshape(-1, cutting.WINDOW)).max(1) > 100).astype(np.float32)


def chunks(audio: np.ndarray, sizes: int | list[int] = 1000, whole_up_to: float = 30.0) -> list:
    audio = np.atleast_2d(audio)
    steps = itertools.cycle([sizes] if isinstance(sizes, int) else sizes)

    def blocks() -> Iterator[np.ndarray]:
        begin = 0
        while begin < audio.shape[1]:
            size = next(steps)
            yield audio[:, begin : begin + size]
            begin += size

    split = len(audio) == 2
    return list(chunking.chunks(blocks(), [loud] * len(audio), KNOBS, split=split, whole_up_to=whole_up_to))


def spoken(pcm: np.ndarray) -> np.ndarray:
    return loud(np.pad(pcm, (0, -len(pcm) % cutting.WINDOW))) > 0


def noise(*seconds: float) -> np.ndarray:
    """Speech and silence in turn, each so many seconds long; every sample of speech is another one."""
    parts = [
        (np.arange(int(s * RATE)) % 30_000 + 200).astype(np.int16) if i % 2 == 0 else np.zeros(int(s * RATE), np.int16)
        for i, s in enumerate(seconds)
    ]
    return np.concatenate(parts)


def test_short_audio_is_one_chunk_of_everything() -> None:
    audio = noise(2, 6, 3)
    (chunk,) = chunks(audio)
    assert np.array_equal(chunk.pcm, audio)
    assert np.array_equal(chunk.speech, spoken(audio))
    assert (chunk.start, chunk.index, chunk.channel, chunk.duration) == (0.0, 0, -1, 11.0)


def test_silence_is_one_empty_chunk() -> None:
    for seconds in (5, 90):
        (chunk,) = chunks(np.zeros(seconds * RATE, np.int16))
        assert (len(chunk.pcm), chunk.index, chunk.duration) == (0, -1, seconds)


def test_no_audio_is_one_empty_chunk() -> None:
    (chunk,) = chunks(np.zeros(0, np.int16))
    assert (len(chunk.pcm), chunk.index, chunk.duration) == (0, -1, 0)


def test_long_audio_is_cut_where_it_is_silent_and_carries_its_samples() -> None:
    audio = noise(20, 1, 20, 1, 20, 5.5)
    found = chunks(audio)
    assert len(found) == 3
    for chunk in found:
        begin = round(chunk.start * RATE)
        assert np.array_equal(chunk.pcm, audio[begin : begin + len(chunk.pcm)])
        assert np.array_equal(chunk.speech, spoken(chunk.pcm))
        assert len(chunk.pcm) <= 28 * RATE
    assert [chunk.index for chunk in found] == [0, 1, 2]
    assert found[-1].duration == len(audio) / RATE


def test_channels_interleave_in_time() -> None:
    left, right = noise(5, 30, 5, 30), np.concatenate([np.zeros(20 * RATE, np.int16), noise(5, 45)])
    found = chunks(np.stack([left, right]))
    assert [(chunk.channel, round(chunk.start)) for chunk in found] == [(0, 0), (1, 20), (0, 35)]
    assert [chunk.index for chunk in found] == [0, 1, 2]


def test_short_stereo_is_one_chunk_per_channel_that_speaks() -> None:
    speech, silence = noise(5), np.zeros(5 * RATE, np.int16)
    assert [chunk.channel for chunk in chunks(np.stack([speech, speech]))] == [0, 1]
    assert [chunk.channel for chunk in chunks(np.stack([silence, speech]))] == [1]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from([0.2, 1.0, 3.0, 9.0, 40.0]), min_size=1, max_size=8),
    st.lists(st.integers(1, 90_000), min_size=1, max_size=4),
)
def test_every_loud_sample_is_in_exactly_one_chunk(seconds: list[float], sizes: list[int]) -> None:
    audio = noise(*seconds)
    count = np.zeros(len(audio), int)
    for chunk in chunks(audio, [size + 200 for size in sizes]):
        begin = round(chunk.start * RATE)
        assert np.array_equal(chunk.pcm, audio[begin : begin + len(chunk.pcm)])
        count[begin : begin + len(chunk.pcm)] += 1
    assert count.max() <= 1
    assert (count[audio > 0] == 1).all()


def test_audio_is_let_go_as_it_is_cut() -> None:
    """Chunks come while the audio does, and the lag is bounded."""
    heard = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal heard
        block = noise(3, 1)[None]
        for _ in range(300):
            heard += block.shape[1]
            yield block

    for chunk in chunking.chunks(blocks(), [loud], KNOBS, split=False, whole_up_to=30.0):
        assert heard / RATE - chunk.start <= 2 * 28 + 10
