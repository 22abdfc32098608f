"""Every token of a text is in the word in which it begins, with its own bytes."""

from __future__ import annotations

from itertools import pairwise
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkies_kit.wire import Token, Word

from harness.engine_modules import load

tokens = load("whisper", "tokens")


@pytest.mark.parametrize(
    ("piece", "utf8"),
    [("Ġask", b" ask"), ("!", b"!"), ("Ã¤", "ä".encode()), ("æĿ±", "東".encode()), ("æĿ", b"\xe6\x9d"), ("Ċ", b"\n")],
)
def test_pieces_of_the_vocabulary(piece: str, utf8: bytes) -> None:
    assert tokens.token(piece, 0.5) == Token(utf8, log(0.5))


def test_the_impossible_has_a_number() -> None:
    assert -100 < tokens.token("a", 0.0).logprob < -50


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=5), max_size=6), st.data())
def test_each_word_has_its_own(words: list[str], data: st.DataObject) -> None:
    """Cut anywhere, within characters too."""
    cut = [
        sorted({0, len(word.encode()), *data.draw(st.lists(st.integers(0, len(word.encode())), max_size=4))})
        for word in words
    ]
    pieces = [
        [Token(word.encode()[begin:end], -1.0) for begin, end in pairwise(places)]
        for word, places in zip(words, cut, strict=True)
    ]
    made = tokens.spread([Word(word, 0, 1) for word in words], [token for own in pieces for token in own])
    assert [list(word.tokens) for word in made] == pieces
    assert [word.word for word in made] == words


@given(st.lists(st.text(max_size=5), min_size=1, max_size=6), st.lists(st.binary(min_size=1, max_size=4), max_size=9))
def test_none_is_lost_even_of_another_text(words: list[str], pieces: list[bytes]) -> None:
    given_ = [Token(piece, -1.0) for piece in pieces]
    made = tokens.spread([Word(word, 0, 1) for word in words], given_)
    assert [token for word in made for token in word.tokens] == given_
