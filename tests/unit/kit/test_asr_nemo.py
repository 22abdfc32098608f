"""What the NeMo engines share, without NeMo: padding and times; and Parakeet's key phrases."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from talkies_kit.wire import AsrOptions, Segment, Word

from harness import engine_modules

phrases = engine_modules.load("parakeet", "phrases")


@pytest.fixture
def nemo(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """talkies_kit.nemo outside of tritonserver."""
    backend = "triton_python_backend_utils"
    monkeypatch.setitem(sys.modules, backend, types.ModuleType(backend))
    names = ("talkies_kit.asr", "talkies_kit.nemo")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("talkies_kit.nemo")
    for name in names:
        sys.modules.pop(name, None)


def segments(nemo: types.ModuleType, seconds: float, hypothesis: tuple[str, Any]) -> list[Segment]:
    text, timestamp = hypothesis
    stretch = nemo.Stretch(np.zeros(round(seconds * 16_000), np.float32), AsrOptions(), "")
    found = nemo.segments(types.SimpleNamespace(text=text, timestamp=timestamp), stretch)
    assert isinstance(found, list)
    return found


def stamps(sentences: list[str], *words: tuple[str, float, float]) -> dict[str, Any]:
    return {
        "word": [{"word": word, "start": start, "end": end} for word, start, end in words],
        "segment": [{"segment": sentence, "start": 0.0, "end": 9.0} for sentence in sentences],
    }


def test_short_speech_is_padded_behind(nemo: types.ModuleType) -> None:
    short = nemo.padded(np.ones(4_000, np.float32))
    assert len(short) == 16_000 and short[:4_000].all() and not short[4_000:].any()
    long = np.ones(20_000, np.float32)
    assert nemo.padded(long).shape == long.shape


def test_sentences_have_the_times_of_their_words(nemo: types.ModuleType) -> None:
    heard = "Hello. How are", stamps(["Hello.", "How are"], ("Hello.", 0.2, 0.5), ("How", 0.8, 1.0), ("are", 1.0, 1.2))
    first, second = segments(nemo, 2.0, heard)
    assert [(segment.start, segment.end, segment.text) for segment in (first, second)] == [
        (0.2, 0.5, "Hello."),
        (0.8, 1.2, "How are"),
    ]
    assert first.words == (Word("Hello.", 0.2, 0.5),)
    assert [word.word for word in second.words] == ["How", "are"]


def test_times_stay_in_the_speech_and_do_not_go_back(nemo: types.ModuleType) -> None:
    heard = "a b c", stamps(["a b c"], ("a", 0.4, 0.6), ("b", 0.3, 0.2), ("c", 0.5, 1.0))
    (found,) = segments(nemo, 0.55, heard)
    assert found.words == (Word("a", 0.4, 0.55), Word("b", 0.4, 0.4), Word("c", 0.5, 0.55))
    assert (found.start, found.end) == (0.4, 0.55)


def test_pieces_without_letters_are_no_words(nemo: types.ModuleType) -> None:
    heard = "a  b.", stamps(["a ", "b."], ("a", 0.1, 0.2), ("", 0.3, 0.4), ("b.", 0.5, 0.6))
    assert [(s.text, len(s.words)) for s in segments(nemo, 1.0, heard)] == [("a", 1), ("b.", 1)]


def test_text_without_times_is_one_segment(nemo: types.ModuleType) -> None:
    stamped: tuple[Any, ...] = ([], {"word": [], "segment": [], "char": []})
    for timestamp in stamped:
        assert segments(nemo, 1.5, (" hi", timestamp)) == [Segment(0.0, 1.5, "hi")]
        assert segments(nemo, 1.5, (" ", timestamp)) == []


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("", ()),
        ("Kubernetes", ("Kubernetes",)),
        ("Kubernetes, New  York;Zürich\nZürich", ("Kubernetes", "New York", "Zürich")),
        ("A talk about Triton 2.51. With Ada.", ("A talk about Triton 2.51", "With Ada")),
        (" ,. \n", ()),
    ],
)
def test_key_phrases(prompt: str, wanted: tuple[str, ...]) -> None:
    assert phrases.phrases(prompt) == wanted


def test_a_long_prompt_gives_a_bounded_number_of_phrases() -> None:
    assert len(phrases.phrases(",".join(map(str, range(1_000))))) == phrases.MAX_PHRASES
