"""Words are cut to the sound, and make sentences."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkies_kit.wire import SAMPLE_RATE, Word

from harness.engine_modules import load

loudness = load("whisper", "loudness")
sentences = load("whisper", "sentences").sentences


def sound(*spans: tuple[float, float], seconds: float = 10.0) -> np.ndarray:
    samples = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    for start, end in spans:
        time = np.arange(round((end - start) * SAMPLE_RATE)) / SAMPLE_RATE
        room = samples[round(start * SAMPLE_RATE) :][: len(time)]
        room[:] = 0.3 * np.sin(2 * np.pi * 300 * time)[: len(room)]
    return samples


def times(words: list[Word]) -> list[tuple[float, float]]:
    return [(word.start, word.end) for word in words]


def test_a_pause_belongs_to_no_word() -> None:
    found = loudness.tightened([Word(" a", 0.0, 2.0), Word(" b", 2.0, 5.0)], sound((0.5, 1.5), (4.0, 4.5)))
    assert times(found) == [pytest.approx((0.45, 1.55), abs=0.02), pytest.approx((3.95, 4.55), abs=0.02)]


def test_the_end_of_the_word_before_is_left_to_it() -> None:
    [found] = loudness.tightened([Word(" b", 1.4, 5.0)], sound((0.5, 1.5), (4.0, 4.5)))
    assert (found.start, found.end) == pytest.approx((3.95, 4.55), abs=0.02)


def test_a_quiet_word_keeps_its_times() -> None:
    quiet = [Word(" a", 6.0, 7.0)]
    assert loudness.tightened(quiet, sound((0.5, 1.5))) == quiet
    assert loudness.tightened(quiet, np.zeros(0, np.float32)) == quiet


edges = st.lists(st.floats(0, 10), min_size=2, max_size=12).map(sorted)


@given(edges, st.lists(st.tuples(st.floats(0, 9), st.floats(0.01, 1)), max_size=5))
def test_times_only_move_inwards(edges: list[float], spans: list[tuple[float, float]]) -> None:
    before = [Word(" a", start, end) for start, end in pairwise(edges)]
    after = loudness.tightened(before, sound(*((start, start + length) for start, length in spans)))
    for old, new in zip(before, after, strict=True):
        assert old.start - 0.001 <= new.start <= new.end <= old.end + 0.001


def texts(*words: tuple[str, float, float]) -> list[str]:
    return [segment.text for segment in sentences([Word(*word) for word in words])]


def test_sentences_end_at_a_full_stop_and_a_breath() -> None:
    assert texts((" Mr.", 0, 0.3), (" Hale", 0.3, 0.6), (" came.", 0.6, 1), (" Then", 1.2, 1.5)) == [
        " Mr. Hale came.",
        " Then",
    ]


def test_sentences_end_at_a_long_pause() -> None:
    assert texts((" and", 0, 0.3), (" so", 2, 2.2)) == [" and", " so"]
    assert texts((' "Yes!"', 0, 0.3), (" he", 0.5, 0.6)) == [' "Yes!"', " he"]


@given(edges, st.lists(st.sampled_from([" a", " b.", "!", " c,"]), min_size=12, max_size=12))
def test_no_word_is_lost(edges: list[float], spoken: list[str]) -> None:
    words = [Word(text, start, end) for text, (start, end) in zip(spoken, pairwise(edges), strict=False)]
    found = sentences(words)
    assert [word for segment in found for word in segment.words] == words
    assert all(segment.start == segment.words[0].start and segment.end == segment.words[-1].end for segment in found)
