"""Which texts nobody has said: what a decoder makes of noise, or repeats of its prompt. Pure."""

from __future__ import annotations

import re

FASTEST = 25.0
"""Characters in a second of speech; more than that nobody says."""
SLACK = 8
"""Characters that are no proof: speech is longer than the part of it that is surely that."""
UNLIKELY = -0.6
SILENT = 0.3
"""Log probability and no-speech probability from which on a text is in doubt."""


def is_noise(text: str, spoken: float, log_probability: float, no_speech: float) -> bool:
    """Whether a text is made of noise: longer than `spoken` seconds of speech can be, and in doubt besides."""
    return _is_too_much(text, spoken) and _is_doubtful(log_probability, no_speech)


def needs_proof(text: str, prompt: str, spoken: float, log_probability: float, no_speech: float) -> bool:
    """Whether a text may come from its prompt, so that something must be heard without the prompt too."""
    if not prompt.strip():
        return False
    is_echo = set(_words(text)) <= set(_words(prompt))
    return is_echo or _is_too_much(text, spoken) or _is_doubtful(log_probability, no_speech)


def _is_too_much(text: str, spoken: float) -> bool:
    return len(text) > FASTEST * spoken + SLACK


def _is_doubtful(log_probability: float, no_speech: float) -> bool:
    return log_probability < UNLIKELY or no_speech > SILENT


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
