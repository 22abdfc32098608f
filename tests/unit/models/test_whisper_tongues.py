"""A window in several languages comes apart where one ends, and only where it surely does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engine_modules import load

tongues = load("whisper", "tongues")
evidence = load("whisper", "evidence")
FRAME = tongues.FRAME
GERMAN, ENGLISH, UNSURE = {"de": 0.95, "en": 0.05}, {"en": 0.99, "de": 0.01}, {"de": 0.6, "en": 0.4}


def frames(seconds: float, *spoken: tuple[float, float]) -> np.ndarray:
    heard = np.zeros(round(seconds / FRAME), np.bool_)
    for start, end in spoken:
        heard[round(start / FRAME) : round(end / FRAME)] = True
    return heard


def test_stretches_end_at_pauses_and_hold_enough_speech() -> None:
    heard = frames(20, (1, 2), (2.5, 5), (5.1, 6), (8, 12), (13, 14))
    found = [(begin * FRAME, end * FRAME) for begin, end in tongues.stretches(heard)]
    assert found == [
        pytest.approx((1, 6), abs=0.05),
        pytest.approx((8, 12), abs=0.05),
        pytest.approx((13, 14), abs=0.05),
    ]
    assert tongues.stretches(frames(5)) == []


def languages(heard: np.ndarray, *likely: dict[str, float], main: str = "en") -> list[tuple[str, float, float]]:
    found = tongues.parts(heard, tongues.stretches(heard), likely, main)
    return [(part.language, part.start, part.end) for part in found]


def test_a_window_comes_apart_in_the_pause_between_languages() -> None:
    heard = frames(20, (0, 8), (10, 19))
    assert languages(heard, ENGLISH, GERMAN) == [
        ("en", 0, pytest.approx(9, abs=0.05)),
        ("de", pytest.approx(9, abs=0.05), 20),
    ]
    assert languages(heard, ENGLISH, ENGLISH) == [("en", 0, 20)]
    assert languages(heard, GERMAN, GERMAN) == [("de", 0, 20)]


def test_what_is_in_doubt_is_in_the_language_before_it_or_the_files() -> None:
    heard = frames(32, (0, 8), (10, 19), (21, 29))
    assert languages(heard, UNSURE, ENGLISH, UNSURE) == [("en", 0, 32)]
    assert [language for language, _, _ in languages(heard, UNSURE, GERMAN, UNSURE)] == ["en", "de"]
    assert languages(frames(4, (1, 3)), GERMAN) == [("en", 0, 4)]  # too short to tell
    assert languages(frames(4)) == [("en", 0, 4)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.05, 2), st.floats(0.1, 8), st.sampled_from([GERMAN, ENGLISH, UNSURE])), max_size=9)
)
def test_parts_cover_the_window_and_differ(spoken: list[tuple[float, float, dict[str, float]]]) -> None:
    at, spans = 0.0, []
    for pause, length, _ in spoken:
        spans.append((at + pause, at := at + pause + length))
    heard = frames(at + 1, *spans)
    found = tongues.stretches(heard)
    made = tongues.parts(heard, found, [spoken[i % len(spoken)][2] for i in range(len(found))], "en")
    assert (made[0].start, made[-1].end) == (0, pytest.approx(len(heard) * FRAME))
    for before, after in pairwise(made):
        assert before.end == after.start and before.language != after.language
    assert sum(part.speech for part in made) == pytest.approx(np.count_nonzero(heard) * FRAME)


def test_the_likeliest_of_those_that_may_be_spoken() -> None:
    likely = {"nl": 0.9, "de": 0.06, "en": 0.04}
    assert tongues.among(likely, ()) == likely
    assert tongues.among(likely, ("en", "de")) == {"en": pytest.approx(0.4), "de": pytest.approx(0.6)}
    assert tongues.among(likely, ("yue", "en")) == {"yue": 0, "en": 1}
    assert tongues.among({"nl": 1.0}, ("yue", "en")) == {"yue": 0.5, "en": 0.5}


CODES = ["de", "en", "es", "fr", "nl", "yue"]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(CODES), min_size=2, unique=True),
    st.lists(
        st.tuples(st.floats(0.05, 2), st.floats(0.1, 8), st.dictionaries(st.sampled_from(CODES), st.floats(0, 1))),
        min_size=1,
        max_size=9,
    ),
)
def test_no_language_is_found_that_was_not_named(
    named: list[str], spoken: list[tuple[float, float, dict[str, float]]]
) -> None:
    """Neither of a file nor of a stretch, whatever it sounds like."""
    heard, at, spans = evidence.Evidence(), 0.0, []
    for pause, length, likely in spoken:
        spans.append((at + pause, at := at + pause + length))
        heard.add("file", tongues.among(likely, named), length)
        assert heard.language("file") in named
    speech = frames(at + 1, *spans)
    found = tongues.stretches(speech)
    told = [tongues.among(spoken[i % len(spoken)][2], named) for i in range(len(found))]
    made = tongues.parts(speech, found, told, heard.language("file"))
    assert {part.language for part in made} <= set(named)
