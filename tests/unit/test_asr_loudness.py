"""Word times are cut to the sound."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkies_kit.wire import SAMPLE_RATE, Segment, Word

from tests.unit.asr_modules import load

loudness = load("whisper", "loudness")


def sound(*spans: tuple[float, float], seconds: float = 10.0) -> np.ndarray:
    samples = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    for start, end in spans:
        time = np.arange(round((end - start) * SAMPLE_RATE)) / SAMPLE_RATE
        samples[round(start * SAMPLE_RATE) :][: len(time)] = 0.3 * np.sin(2 * np.pi * 300 * time)
    return samples


def segment(*words: tuple[float, float]) -> Segment:
    return Segment(words[0][0], words[-1][1], " a" * len(words), tuple(Word(" a", s, e) for s, e in words))


def test_a_pause_belongs_to_no_word() -> None:
    [found] = loudness.tightened([segment((0.0, 2.0), (2.0, 5.0))], sound((0.5, 1.5), (4.0, 4.5)))
    assert [(word.start, word.end) for word in found.words] == [
        (pytest.approx(0.45, abs=0.02), pytest.approx(1.55, abs=0.02)),
        (pytest.approx(3.95, abs=0.02), pytest.approx(4.55, abs=0.02)),
    ]
    assert (found.start, found.end) == (found.words[0].start, found.words[1].end)


def test_a_quiet_word_keeps_its_times() -> None:
    quiet = segment((6.0, 7.0))
    assert loudness.tightened([quiet], sound((0.5, 1.5))) == [quiet]
    assert loudness.tightened([quiet], np.zeros(0, np.float32)) == [quiet]


def test_without_words_nothing_moves() -> None:
    bare = Segment(0.0, 5.0, " a")
    assert loudness.tightened([bare], sound((1, 2))) == [bare]


@given(
    st.lists(st.floats(0, 10), min_size=2, max_size=12).map(sorted),
    st.lists(st.tuples(st.floats(0, 9), st.floats(0.01, 1)), max_size=5),
)
def test_times_only_move_inwards(times: list[float], spans: list[tuple[float, float]]) -> None:
    before = segment(*itertools.pairwise(times))
    [after] = loudness.tightened([before], sound(*((start, start + length) for start, length in spans)))
    for old, new in zip(before.words, after.words, strict=True):
        assert old.start - 0.001 <= new.start <= new.end <= old.end + 0.001
