"""Languages as clients write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkies import languages
from talkies.registry import Registry
from talkies.settings import PROJECT

WHISPER = Registry.load(PROJECT / "models.json")["whisper-large-v3"].languages


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        *[("en", "en"), ("EN", "en"), (" en-US ", "en"), ("en_US", "en"), ("eng", "en"), ("English", "en")],
        *[("nb", "no"), ("nb-NO", "no"), ("nn", "nn"), ("iw", "he"), ("in", "id"), ("fil", "tl"), ("jv", "jw")],
        *[("deu", "de"), ("ger", "de"), ("cmn", "zh"), ("zh-Hans-CN", "zh"), ("yue", "yue"), ("javanese", "jw")],
        *[("xx", None), ("", None), ("klingon", None), ("-", None)],
    ],
)
def test_what_people_send(asked: str, code: str | None) -> None:
    assert languages.find(asked, WHISPER) == code


@given(st.sampled_from(WHISPER), st.sampled_from(["", "-XX", "_yy", "-Latn-ZZ"]))
def test_each_language_is_found_by_its_code_and_its_name(code: str, region: str) -> None:
    assert languages.find(code + region, WHISPER) == code
    assert languages.find(languages.name(code).title(), WHISPER) == code
    assert languages.name(code).isascii() and languages.name(code) != code


@given(st.text(max_size=12))
def test_anything_else_is_nothing(text: str) -> None:
    assert languages.find(text, WHISPER) in {None, *WHISPER}


def test_a_model_may_know_either_code() -> None:
    assert languages.find("no", ["nb"]) == "nb"
    assert languages.find("tl", ["fil"]) == "fil"
    assert languages.name("xx") == "xx"
