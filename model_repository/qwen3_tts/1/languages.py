"""The languages that Qwen3-TTS speaks, by their codes and as it calls them."""

from __future__ import annotations

LABELS = {
    "auto": "Auto",
    "zh": "Chinese",
    "en": "English",
    "fr": "French",
    "de": "German",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "pt": "Portuguese",
    "ru": "Russian",
    "es": "Spanish",
}
"""ISO 639-1 code -> label; auto leaves it to the model to tell from the text."""
_CODES = {label.lower(): code for code, label in LABELS.items()} | {code: code for code in LABELS}


def code_of(asked: str) -> str | None:
    """The code of a label or of a code with or without region, in any case; None for another language."""
    word = asked.strip().lower().replace("_", "-")
    return _CODES.get(word) or _CODES.get(word.partition("-")[0])
