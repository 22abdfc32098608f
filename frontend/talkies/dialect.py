"""What is answered differently to who asks under one of OpenAI's model names, so that no client of OpenAI's notices:
a line for each difference. docs/http-api.md has them as a table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Rule(StrEnum):
    """Whom to answer how: TALKIES_DIALECT."""

    AUTO = "auto"
    """Who asks under a name of OpenAI's gets OpenAI's answers, who asks for a slug talkies' own."""
    OPENAI = "openai"
    DESCRIPTION = "description"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How talkies' own answers look; OPENAI has the others."""

    confidences: bool = False
    """avg_logprob, compression_ratio and no_speech_prob are numbers, the engine's or 0.0; otherwise null."""
    usage: bool = False
    """json and verbose_json say how many seconds were heard."""
    language_names: bool = False
    """The language of verbose_json is "english", not "en"."""
    bare_words: bool = False
    """Words come without the space before them."""
    media_types: Mapping[str, str] = field(default_factory=dict)
    """The content type of formats whose own is another."""
    openai_voices: bool = False
    """OpenAI's voice names mean voices of the model."""
    languages: bool = False
    """json says which languages were spoken."""
    streamed_speech: Collection[str] = ()
    """Formats of speech that is sent while it is made, without being asked to; the others' headers know the end."""


DESCRIPTION = Dialect()
OPENAI = Dialect(
    confidences=True,
    usage=True,
    language_names=True,
    bare_words=True,
    media_types={
        "srt": "text/plain; charset=utf-8",
        "vtt": "text/plain; charset=utf-8",
        "pcm": "audio/pcm",
    },
    openai_voices=True,
    streamed_speech=frozenset({"mp3", "opus", "aac", "pcm"}),
)
GPT_TRANSCRIBE = replace(OPENAI, languages=True)
"""Of the one model of OpenAI's that answers so, and its dated names."""


def spoken(rule: Rule, *, is_slug: bool, name: str = "") -> Dialect:
    """The dialect of an answer to a request whose model, `name`, is a slug of the registry, or else one of OpenAI's."""
    if not is_slug and rule is not Rule.DESCRIPTION and f"{name}-".startswith("gpt-transcribe-"):
        return GPT_TRANSCRIBE
    if rule is Rule.AUTO:
        return DESCRIPTION if is_slug else OPENAI
    return OPENAI if rule is Rule.OPENAI else DESCRIPTION
