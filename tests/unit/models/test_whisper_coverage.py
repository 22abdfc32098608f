"""Speech without words is found, what is heard in it goes where it belongs, and nothing is said twice."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from talkies_kit import coverage
from talkies_kit.wire import Word

from harness.engine_modules import load

noise = load("whisper", "noise")
FRAME = coverage.FRAME
Gap = coverage.Gap


def frames(seconds: float, *spoken: tuple[float, float]) -> np.ndarray:
    heard = np.zeros(round(seconds / FRAME), np.bool_)
    for start, end in spoken:
        heard[round(start / FRAME) : round(end / FRAME)] = True
    return heard


def said(text: str, start: float, step: float = 0.3) -> list[Word]:
    return [Word(f" {word}", start + i * step, start + i * step + 0.9 * step) for i, word in enumerate(text.split())]


def spans(found: list) -> list[tuple[float, float]]:
    return [(gap.start, gap.end) for gap in found]


def test_speech_before_between_and_after_the_words() -> None:
    heard = frames(20, (1, 4), (5, 8), (9, 12), (14, 17))
    words = [*said("one two three four five six seven eight nine ten", 5), *said("eleven twelve", 14)]
    assert spans(coverage.gaps(heard, words)) == [
        pytest.approx((0.8, 4.2), abs=0.1),
        pytest.approx((8.8, 12.2), abs=0.1),
        pytest.approx((14.6, 17.2), abs=0.1),
    ]


def test_no_words_at_all() -> None:
    assert spans(coverage.gaps(frames(10, (2, 8)), [])) == [pytest.approx((1.8, 8.2), abs=0.1)]
    assert coverage.gaps(frames(10), []) == []


def test_breaths_and_pauses_are_no_gaps() -> None:
    words = said("one two three", 1)
    assert coverage.gaps(frames(10, (0.4, 2.5)), words) == []
    assert coverage.gaps(frames(10, (1, 1.9)), words) == []


def test_a_word_that_is_too_long_for_one_hides_nothing() -> None:
    words = [Word(" so", 1.0, 9.0), *said("it was", 9)]
    ((start, end),) = spans(coverage.gaps(frames(10, (1, 9.6)), words))
    assert 1 < start < 2 and 8 < end < 9


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 28), st.floats(0, 6)), max_size=8),
    st.lists(st.tuples(st.floats(0, 28), st.floats(0, 3)), max_size=30),
)
def test_gaps_lie_apart_in_order_and_hold_the_speech_that_they_tell(
    spoken: list[tuple[float, float]], timed: list[tuple[float, float]]
) -> None:
    heard = frames(30, *((start, start + length) for start, length in spoken))
    found = coverage.gaps(heard, [Word(" w", start, start + length) for start, length in timed])
    for gap in found:
        assert 0 <= gap.start < gap.end <= len(heard) * FRAME + 1e-9
        assert coverage.LEAST <= gap.speech <= gap.end - gap.start + 1e-9
    for before, after in pairwise(found):
        assert before.end <= after.start


def test_what_was_heard_goes_between_the_words_around_it() -> None:
    words = [Word(" end.", 1, 2), Word(" So", 2, 8), Word(" it", 8, 8.3)]
    before, after = coverage.place(words, coverage.Gap(2.8, 7.2, 4.0))
    assert [word.word for word in before] == [" end."] and [word.word for word in after] == [" So", " it"]
    assert after[0].start == 7.2
    before, after = coverage.place([Word(" and", 1, 2), Word(" so", 2, 8)], coverage.Gap(2.8, 7.2, 4.0))
    assert before == [Word(" and", 1, 2), Word(" so", 2, 2.8)] and after == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 30), max_size=20).map(sorted), st.floats(0, 29), st.floats(0.1, 5))
def test_no_word_is_lost_at_a_gap(starts: list[float], begin: float, length: float) -> None:
    words = [Word(f" {i}", start, start + 2) for i, start in enumerate(starts)]
    before, after = coverage.place(words, coverage.Gap(begin, begin + length, length))
    assert [word.word for word in [*before, *after]] == [word.word for word in words]
    assert all(word.start <= word.end for word in [*before, *after])


def test_what_the_neighbours_have_said_is_not_said_again() -> None:
    def rest(before: str, found: str, after: str) -> str:
        # Within the gap's edges, half a second wide.
        kept = coverage.without_repeats(said(before, 8), said(found, 9), said(after, 20), Gap(8.9, 10.3, 1.2))
        return "".join(word.word for word in kept).strip()

    assert rest("he is the Reciter.", "reciter. And then he", "He went") == "And then"
    assert rest("", "all new", "") == "all new"


def test_what_was_said_again_is_kept() -> None:
    words = said("all new", 1)
    assert coverage.without_repeats(words, said("All new!", 9), [], Gap(8, 10.5, 2.0)) == said("All new!", 9)
    assert coverage.without_repeats([], said("All new!", 9), said("all new", 20), Gap(8, 10.5, 2.0))


def test_nobody_says_that_much_at_once() -> None:
    """The words have no room where they stand: what the gap holds is their sound, and they have the wrong times."""
    squeezed = [Word(" all", 1, 1.01), Word(" new", 1.01, 1.02)]
    assert coverage.without_repeats(squeezed, said("All new!", 9), [], Gap(8, 10.5, 2.0)) == []
    later = [Word(" all", 20, 20.01), Word(" new", 20.01, 20.02)]
    assert coverage.without_repeats([], said("All new!", 9), later, Gap(8, 10.5, 2.0)) == []


@pytest.mark.parametrize(
    ("text", "spoken", "log_probability", "no_speech", "is_noise"),
    [
        ("I don't know what I'm going to do.", 0.1, -1.2, 0.6, True),
        ("I don't know what I'm going to do.", 0.1, -0.2, 0.05, False),
        ("I don't know what I'm going to do.", 2.0, -1.2, 0.6, False),
        ("Yes.", 0.2, -1.2, 0.6, False),
    ],
)
def test_noise(text: str, spoken: float, log_probability: float, no_speech: float, is_noise: bool) -> None:
    assert noise.is_noise(text, spoken, log_probability, no_speech) is is_noise


@pytest.mark.parametrize(
    ("text", "prompt", "sure", "needs"),
    [
        ("The assistant is called Jarvix. Jarvix!", "The assistant is called Jarvix. Glossary: Istio", True, True),
        ("The assistant was called Jarvix.", "The assistant is called Jarvix.", True, False),
        ("Thank you very much.", "Hello, welcome to my lecture.", False, True),
        ("Thank you very much.", "Hello, welcome to my lecture.", True, False),
        ("Thank you very much.", " ", False, False),
    ],
)
def test_what_a_prompt_may_have_made_needs_proof(text: str, prompt: str, sure: bool, needs: bool) -> None:
    assert noise.needs_proof(text, prompt, 3.0, -0.2 if sure else -0.8, 0.05) is needs
