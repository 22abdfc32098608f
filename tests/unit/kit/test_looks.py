"""What an engine leaves out of a stretch it is given again by itself, once, and nothing is said twice."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from talkies_kit.coverage import FRAME
from talkies_kit.wire import SPEECH_FRAME, AsrOptions, Segment, Word

LENGTH = 32
"""Frames of a word, a little more than a second: speech that is worth another look."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """talkies_kit.looks outside of tritonserver."""
    backend = "triton_python_backend_utils"
    monkeypatch.setitem(sys.modules, backend, types.ModuleType(backend))
    names = ("talkies_kit.asr", "talkies_kit.looks")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("talkies_kit.looks")
    for name in names:
        sys.modules.pop(name, None)


def stretch(looks: types.ModuleType, pauses: Sequence[int], first: int = 1, **options: bool) -> Any:
    """Words after pauses of so many frames; each is a sound of its own, so that it is known by its samples."""
    frames: list[int] = []
    for number, pause in enumerate(pauses):
        frames += [0] * pause + [first + number] * LENGTH
    numbers = np.array([*frames, 0, 0], np.float32)
    return looks.Stretch(np.repeat(numbers, SPEECH_FRAME), AsrOptions(**options), "", numbers > 0)  # type: ignore[arg-type]


class Engine:
    """Hears words by their sound, but for those it `misses` in its first call and those it is `deaf` to."""

    def __init__(self, looks: types.ModuleType, misses: set[int], deaf: set[int] | None = None) -> None:
        self._hypothesis: Callable[..., Any] = looks.Hypothesis
        self._misses, self._deaf = misses, deaf or set()
        self.calls: list[list[Any]] = []

    def __call__(self, batch: Sequence[Any]) -> list[Any]:
        self.calls.append(list(batch))
        missed = self._deaf if len(self.calls) > 1 else self._deaf | self._misses
        return [self._hypothesis("en", self._segments(stretch, missed)) for stretch in batch]

    def _segments(self, stretch: Any, missed: set[int]) -> list[Segment]:
        frames = stretch.samples[::SPEECH_FRAME].astype(int)
        words = []
        for number in sorted(set(frames.tolist()) - {0} - missed):
            own = np.flatnonzero(frames == number)
            if len(own) == LENGTH:
                words.append(Word(f"w{number}", own[0] * FRAME, (own[-1] + 1) * FRAME))
        threes = [tuple(words[i : i + 3]) for i in range(0, len(words), 3)]
        return [Segment(part[0].start, part[-1].end, " ".join(w.word for w in part), part) for part in threes]


PAUSES = st.lists(st.integers(4, 40), min_size=1, max_size=9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(PAUSES, min_size=1, max_size=4), st.data())
def test_every_word_is_there_once_in_its_place(
    looks: types.ModuleType, pauses: list[list[int]], data: st.DataObject
) -> None:
    batch = [stretch(looks, own, 1 + 10 * i, word_timestamps=True) for i, own in enumerate(pauses)]
    all_words = [1 + 10 * i + k for i, own in enumerate(pauses) for k in range(len(own))]
    missed = data.draw(st.sets(st.sampled_from(all_words)))
    deaf = data.draw(st.sets(st.sampled_from(sorted(missed)))) if missed else set()
    engine = Engine(looks, missed, deaf)
    made = looks.heard(batch, engine)
    whole = Engine(looks, set())(batch)
    for i, (hypothesis, right) in enumerate(zip(made, whole, strict=True)):
        words = [word for segment in hypothesis.segments for word in segment.words]
        expected = [w for segment in right.segments for w in segment.words if int(w.word[1:]) not in deaf]
        assert [word.word for word in words] == [word.word for word in expected]
        for word, other in zip(words, expected, strict=True):
            assert (word.start, word.end) == pytest.approx((other.start, other.end), abs=1e-6)
        assert " ".join(s.text for s in hypothesis.segments) == " ".join(word.word for word in expected)
        lost = [number for number in deaf if (number - 1) // 10 == i]
        assert hypothesis.unheard == pytest.approx(len(lost) * LENGTH * FRAME)
    assert all(len(call) <= len(batch) for call in engine.calls)
    assert engine.calls[0] == batch
    looked = sum(len(call) for call in engine.calls[1:])
    assert looked <= len(missed)  # neighbours are one gap, and no gap is looked at again
    assert bool(looked) == bool(missed)


def test_words_are_kept_where_they_are_asked_for(looks: types.ModuleType) -> None:
    batch = [stretch(looks, [4, 4, 4, 4]), stretch(looks, [4, 4], 11, word_timestamps=True)]
    plain, timed = looks.heard(batch, Engine(looks, {2, 11}))
    assert [(segment.text, segment.words) for segment in plain.segments] == [("w1", ()), ("w2", ()), ("w3 w4", ())]
    assert [[word.word for word in segment.words] for segment in timed.segments] == [["w11"], ["w12"]]


def test_what_is_not_known_is_not_looked_at(looks: types.ModuleType) -> None:
    heard = stretch(looks, [4, 4, 4])
    engine = Engine(looks, {2})
    (made,) = looks.heard([looks.Stretch(heard.samples, heard.options, "")], engine)
    assert (len(engine.calls), made.unheard) == (1, 0)

    calls = []

    def untimed(batch: Sequence[Any]) -> list[Any]:
        calls.append(batch)
        return [looks.Hypothesis("en", [Segment(0, 3, "w1 w3")])]

    (made,) = looks.heard([heard], untimed)
    assert (len(calls), made.unheard, [segment.text for segment in made.segments]) == (1, 0, ["w1 w3"])


def test_what_the_engine_says_again_is_said_once(looks: types.ModuleType) -> None:
    """It hears the edge of a neighbour in the gap."""
    heard = stretch(looks, [4, 4, 4], word_timestamps=True)
    engine = Engine(looks, {2})

    def echoing(batch: Sequence[Any]) -> list[Any]:
        made = engine(batch)
        if len(engine.calls) == 1:
            return made
        (segment,) = made[0].segments
        words = (Word("w1", 0.0, 0.1), *segment.words, Word("w3", segment.end, segment.end + 0.1))
        return [looks.Hypothesis("en", [Segment(0.0, words[-1].end, "w1 w2 w3", words)])]

    (made,) = looks.heard([heard], echoing)
    assert [segment.text for segment in made.segments] == ["w1", "w2", "w3"]
