"""Text that is dear to read: little work at a time, in linear time, and nothing lost of what people write."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from talkies_kit import reading, splitting
from talkies_kit.splitting import Sentence, sentences

HOSTILE = {
    "unseen sentences": "\u200b. ",
    "accents": "\u0301",
    "accents of every class": "\u0301\u0327\u0315\u05b0",
    "joined accents": "\u0301\u200d",
    "dashes": "-",
    "dots": ".",
    "dotted": ". ",
    "dashes by lines": "-\n",
    "unseen lines": "\u200b\n",
    "blank lines": " \n",
    "underscores": "_",
    "emoji": "😀",
    "one word": "a",
    "short words by lines": "a\n",
    "letters": "A. ",
    "brackets": "([{",
    "fillers": "\u3164",
    "returns": "\r",
}
WORDS = st.text(st.characters(categories=["L", "N"], max_codepoint=0x24F), min_size=1, max_size=12)
PROSE = st.lists(st.tuples(WORDS, st.sampled_from([" ", ". ", ", ", "! ", "\n", "\n\n", " — ", "… "])), max_size=60)


class Segmenter:
    """Stands in for the segmenter, cuts after every full stop; counts what it is given."""

    def __init__(self) -> None:
        self.read = 0
        self.longest = 0

    def __call__(self, line: str) -> Iterator[str]:
        self.read += len(line)
        self.longest = max(self.longest, len(line))
        return (match[0] for match in re.finditer(r"[^.!?।]*[.!?।]*\s*", line) if match[0])


def letters(text: str) -> list[str]:
    """What is spoken of a text, whatever its form."""
    return [char for char in unicodedata.normalize("NFD", text) if char.isalnum()]


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=list(HOSTILE))
@pytest.mark.parametrize("size", [9_000, 200_000])
def test_every_step_is_little_work(unit: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No step looks at more than some windows, and all of them together at the text once or twice."""
    looked_at: list[int] = []
    real = reading.readable

    def counted(window: str) -> str:
        looked_at.append(len(window))
        return real(window)

    monkeypatch.setattr(splitting, "readable", counted)
    segment = Segmenter()
    text = "e" + unit * (size // len(unit))
    seen = 0
    for step in sentences(text, segment):
        assert sum(looked_at[seen:]) <= 3 * reading.WINDOW
        seen = len(looked_at)
        assert step is None or 0 < len(step.text) <= splitting.MAX_SENTENCE
    assert sum(looked_at) == len(text)
    assert segment.longest <= splitting.MAX_LINE + reading.WINDOW + 1
    assert segment.read <= 3 * len(text)


@given(st.text(max_size=400))
@example("word " * 3000)
@example("x" * 15_000)
@example("A sentence of some words. " * 700)
@example("a line\n" * 1500)
@example("1. one\n2. two\r\n\u2028three\x00four")
@example(("word " * 799 + "tail\n") * 4)
def test_sentences_lose_nothing_that_is_spoken(text: str) -> None:
    found = [sentence for sentence in sentences(text, Segmenter()) if sentence]
    assert letters("".join(sentence.text for sentence in found)) == letters(reading.UNSPOKEN.sub(" ", text))
    for sentence in found:
        assert reading.is_spoken(sentence.text) and "\n" not in sentence.text
        assert 0 < len(sentence.text) <= splitting.MAX_SENTENCE
        assert sentence.text == sentence.text.strip() or len(found) > 1


@given(prose=PROSE, repeats=st.sampled_from([1, 40]))
def test_words_stay_words(prose: list[tuple[str, str]], repeats: int) -> None:
    """However the text lies in the windows, no word is cut and no two are joined."""
    text = "".join(word + gap for word, gap in prose) * repeats
    found = " ".join(sentence.text for sentence in sentences(text, Segmenter()) if sentence)
    assert re.findall(r"\w+", found) == re.findall(r"\w+", unicodedata.normalize("NFC", text))


def test_a_long_text_is_cut_as_a_short_one_is() -> None:
    """Windows are not seen in the result: breaks and sentences are those of each paragraph alone."""
    paragraph = "One sentence is here, and it is of some length. Another\nfollows on the next line.\nA third.\n\n"
    alone = [s for s in sentences(paragraph, Segmenter()) if s]
    assert [s for s in sentences(paragraph * 200, Segmenter()) if s] == alone * 200
    line = "The quick brown fox jumps over the lazy dog today. "
    found = [s for s in sentences(line * 500, Segmenter()) if s]
    assert found[:-1] == [Sentence(line.strip(), splitting.Break.SENTENCE)] * 499


@given(st.text(max_size=300) | st.lists(st.sampled_from(list(HOSTILE.values())), max_size=300).map("".join))
def test_readable_text_is_bounded_and_stays_as_it_is(text: str) -> None:
    made = reading.readable(text)
    assert not re.search(rf"(?:[^\w\n]|_){{{reading.RUN + 2}}}", made)
    assert not reading._MARKED.search(unicodedata.normalize("NFC", made)) or len(made) < len(text)
    assert reading.readable(made).split() == made.split()


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("e" + "\u0301" * 8000, "\u00e9" + "\u0301" * (reading.MARKS - 1)),
        ("so" + "." * 600_000 + "on", "so" + "." * 16 + " on"),
        ("so" + "\u00ad" * 9 + "me\u200bthing", "something"),
        ("क्‍या नमस्ते", "क्‍या नमस्ते"),
        ("Wait... what?!", "Wait... what?!"),
        (
            "\u0627\u0644\u0652\u062d\u064e\u0645\u0652\u062f\u064f",
            "\u0627\u0644\u0652\u062d\u064e\u0645\u0652\u062f\u064f",
        ),
        ("a\r\n\r\n\r\n\r\nb\u2028c", "a\n\nb\nc"),
        ("100 % of 5 €", "100 % of 5 €"),
    ],
)
def test_readable(text: str, made: str) -> None:
    assert reading.readable(text) == made


@pytest.mark.parametrize(
    ("text", "spoken"), [("a", True), ("5", True), ("€", True), ("&", True), (" -—…\u0301", False)]
)
def test_is_spoken(text: str, spoken: bool) -> None:
    assert reading.is_spoken(text) is spoken


@given(st.text(alphabet="ab \n", max_size=15_000))
def test_windows_are_the_text(text: str) -> None:
    found = list(reading.windows(text))
    assert "".join(found) == text
    assert all(0 < len(window) <= reading.WINDOW for window in found)
