"""Comparing transcripts: what counts is the words."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import jiwer

# The few spellings in which Whisper and LibriSpeech's upper-case references differ without a word being wrong.
_SPELLINGS = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint"}


def normalize(text: str) -> str:
    """Lower case, no punctuation, one space between words; contractions keep their apostrophe."""
    words = re.sub(r"[^\w'\s]", " ", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")).split()
    return " ".join(_SPELLINGS.get(word, word) for word in words)


def wer(references: list[str], hypotheses: list[str]) -> float:
    """Word error rate over all pairs, 0.0 to 1.0 and above."""
    return float(jiwer.wer([normalize(r) for r in references], [normalize(h) for h in hypotheses]))


def transcripts(audio: Path, prefix: str) -> list[tuple[Path, str, str]]:
    """(file, language, text) of the shared audio set whose file name starts with `prefix`."""
    with (audio / "transcripts.tsv").open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(audio / r["file"], r["language"], r["text"]) for r in rows if r["file"].startswith(prefix)]
