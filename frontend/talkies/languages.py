"""Languages as people and programs write them: codes of two and three letters, names, codes of yesterday."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

from babel import Locale
from babel.core import get_global

DETECTION = frozenset({"auto", "detect"})
_SAME = ({"no", "nb"}, {"he", "iw"}, {"id", "in"}, {"tl", "fil"}, {"jv", "jw"})
"""Codes of one language, of which a model may know any."""
_WHISPER = {"bn": "bengali", "jw": "javanese", "mi": "maori", "my": "myanmar", "nn": "nynorsk"}
"""Names that OpenAI spells differently from the Unicode consortium."""


def name(code: str) -> str:
    """The language as OpenAI's answers spell it, "english"; the code itself when it is unknown."""
    return _names().get(code, code)


def title(code: str) -> str:
    """The language as people read it, "British English" for "en-gb"; the code itself when it is unknown."""
    language, _, region = code.partition("-")
    names: Mapping[str, str] = Locale("en").languages
    return names.get(f"{language}_{region.upper()}") or names.get(language, code)


def find(asked: str, known: Collection[str]) -> str | None:
    """The `known` code for a language that may be written "EN", "en-US", "eng" or "english"; None for none of them."""
    text = asked.strip().lower().replace("_", "-")
    code = _codes().get(text, text.partition("-")[0])
    for candidate in (text, code, *_twins(code)):
        if candidate in known:
            return candidate
    return None


def _twins(code: str) -> list[str]:
    canonical = get_global("language_aliases").get(code, code)
    same = next((codes for codes in _SAME if canonical in codes or code in codes), set())
    return [canonical, *sorted(same)]


@cache
def _names() -> dict[str, str]:
    """Code -> name in lower case."""
    return {code: text.lower() for code, text in Locale("en").languages.items()} | _WHISPER


@cache
def _codes() -> dict[str, str]:
    """Name in lower case -> code; the Unicode consortium's names and OpenAI's."""
    listed = {text.lower(): code for code, text in Locale("en").languages.items() if "_" not in code}
    return listed | {text: code for code, text in _WHISPER.items()}
