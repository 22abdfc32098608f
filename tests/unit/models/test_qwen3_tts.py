"""Qwen3-TTS' pure parts: languages and what one model call says. They need no library."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine_modules import load

languages, utterances = (load("qwen3_tts", name) for name in ("languages", "utterances"))


def segment(line: str) -> Iterator[str]:
    """Stands in for the segmenter: cuts after every full stop."""
    return (match[0] for match in re.finditer(r"[^.。]*[.。]*\s*", line) if match[0])


def cut(text: str) -> list[str]:
    return list(filter(None, utterances.utterances(text, segment)))


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("English", "en"),
        ("german", "de"),
        (" CHINESE\n", "zh"),
        ("pt-BR", "pt"),
        ("zh_Hans", "zh"),
        ("Auto", "auto"),
        ("Klingon", None),
        ("", None),
        ("-en", None),
    ],
)
def test_languages(asked: str, code: str | None) -> None:
    assert languages.code_of(asked) == code


@given(st.text(alphabet="aB .。，!\n🙂é", max_size=900))  # noqa: RUF001 - the full-width comma is meant
def test_nothing_audible_is_lost_and_every_call_fits(text: str) -> None:
    found = cut(text)
    heard = "".join(char for part in found for char in part if char.isalnum())
    assert heard == "".join(filter(str.isalnum, text))
    assert all(0 < len(part) <= utterances.LIMIT and any(map(str.isalnum, part)) for part in found)


def test_sentences_of_a_paragraph_go_together() -> None:
    short = "This one is short. "
    assert cut(short * 3 + "\n\n" + short) == [(short * 3).strip(), short.strip()]
    assert [part.count(".") for part in cut(short * 25)] == [10, 10, 5]
    assert cut("...\n\n🙂\n\n- ") == []


def test_chinese_is_cut_at_its_own_marks() -> None:
    clause = "今天天气很好，"  # noqa: RUF001 - the full-width comma is meant
    found = cut(clause * 90)
    assert len(found) > 2 and all(part.endswith(clause[-3:]) for part in found)
