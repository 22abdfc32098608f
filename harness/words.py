"""Comparing transcripts: what counts is the words."""

from __future__ import annotations

import csv
from pathlib import Path

import jiwer
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

_ENGLISH = EnglishTextNormalizer()
_ANY = BasicTextNormalizer()


def normalize(text: str) -> str:
    """English as OpenAI's evaluation compares it: no case, punctuation or fillers, one spelling of each word."""
    return str(_ENGLISH(text))


def wer(references: list[str], hypotheses: list[str], language: str = "en") -> float:
    """Word error rate over all pairs, 0.0 to 1.0 and above."""
    plain = _ENGLISH if language == "en" else _ANY
    return float(jiwer.wer([plain(r) for r in references], [plain(h) for h in hypotheses]))


def lost(references: list[str], hypothesis: str) -> list[str]:
    """The references, spoken one after the other, of which less than half of the words have anything in their place."""
    said = [normalize(reference).split() for reference in references]
    words = [word for sentence in said for word in sentence]
    heard: set[int] = set()
    for chunk in jiwer.process_words(" ".join(words), normalize(hypothesis) or "-").alignments[0]:
        if chunk.type in ("equal", "substitute") and hypothesis:
            heard.update(range(chunk.ref_start_idx, chunk.ref_end_idx))
    missing, at = [], 0
    for reference, sentence in zip(references, said, strict=True):
        if len(heard & set(range(at, at + len(sentence)))) < len(sentence) / 2:
            missing.append(reference)
        at += len(sentence)
    return missing


def transcripts(audio: Path, prefix: str) -> list[tuple[Path, str, str]]:
    """(file, language, text) of the shared audio set whose file name starts with `prefix`."""
    with (audio / "transcripts.tsv").open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(audio / r["file"], r["language"], r["text"]) for r in rows if r["file"].startswith(prefix)]
