"""What a JSON text costs to parse, however it is cut; and that nothing dear reaches a parser."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkies.api import json_meter
from talkies.api.json_meter import MAX_STRUCTURE, JsonMeter
from talkies.errors import BadRequest

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20) | st.text('"\\\n\u00e4', max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


def structure(value: Any, text: str) -> int:
    """By a slow way: all bytes but those that are within strings and the quotes that end them."""
    outside, at, place = 0, False, 0
    while place < len(text):
        if at and text[place] == "\\":
            place += 2
            continue
        outside += not at
        if text[place] == '"':
            at = not at
        place += 1
    return outside


@given(value=VALUES, escaped=st.booleans(), cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_the_count_does_not_depend_on_how_the_text_comes(value: Any, escaped: bool, cuts: list[int]) -> None:
    text = json.dumps(value, ensure_ascii=escaped)
    content = text.encode()
    places = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    meter = JsonMeter()
    for start, end in pairwise(places):
        meter.feed(content[start:end])
    assert meter._structure == structure(value, text)


@given(content=st.binary(max_size=60), cut=st.integers(0, 60))
def test_what_is_no_json_is_counted_too(content: bytes, cut: int) -> None:
    whole, pieces = JsonMeter(), JsonMeter()
    whole.feed(content)
    pieces.feed(content[:cut])
    pieces.feed(content[cut:])
    assert whole._structure == pieces._structure <= len(content)


@pytest.mark.parametrize(
    "unit", [b"1,", b'"k":1,', b"[", b'{"":', b'""', b'"\\"",', b" ", b"1", b'"\\\\",', b"\xff"], ids=repr
)
def test_many_values_are_refused_after_as_many_bytes(unit: bytes) -> None:
    meter = JsonMeter()
    with pytest.raises(BadRequest, match="outside of its strings"):
        for _ in range(MAX_STRUCTURE + 1):
            meter.feed(unit)


@pytest.mark.parametrize("text", [b"a" * (2 << 20), b"\\n" * (1 << 20), b"\\\\" * (1 << 20), b"\\u00e9{[,:" * 100_000])
def test_a_long_string_is_not(text: bytes) -> None:
    content = b'{"input": "' + text + b'"}'
    for size in (1 << 16, 999):
        meter = JsonMeter()
        for start in range(0, len(content), size):
            meter.feed(content[start : start + size])
    assert len(pydantic_core.from_json(content)) == 1


def test_a_string_is_taken_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are what is bounded: by what lies outside of strings, whatever is in them."""
    steps = 0
    real = json_meter._string_end

    def counted(piece: bytes, place: int) -> int:
        nonlocal steps
        steps += 1
        return real(piece, place)

    monkeypatch.setattr(json_meter, "_string_end", counted)
    JsonMeter().feed(b'{"a": "' + b"\\n" * 1_000_000 + b'"}')
    assert steps == 2


def test_the_parser_bounds_nesting_itself() -> None:
    """What the meter lets through, a parser refuses at once."""
    with pytest.raises(ValueError, match="recursion"):
        pydantic_core.from_json(b"[" * MAX_STRUCTURE)
