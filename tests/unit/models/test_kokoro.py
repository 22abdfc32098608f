"""Kokoro's pure parts: splitting, voices, languages, phonemes, samples. They need neither onnxruntime nor misaki."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from talkies_kit import splitting
from talkies_kit.wire import InvalidInput

FOLDER = Path(__file__).parents[3] / "model_repository" / "kokoro" / "1"


def load(name: str) -> types.ModuleType:
    """A module beside model.py, in a package as Triton makes one."""
    package = sys.modules.setdefault("kokoro_model", types.ModuleType("kokoro_model"))
    package.__path__ = [str(FOLDER)]
    return importlib.import_module(f"kokoro_model.{name}")


audio, vocabulary, voices = map(load, ("audio", "vocabulary", "voices"))
Break = splitting.Break


def test_the_facade_is_told_what_the_voices_speak() -> None:
    facts = tomllib.loads((FOLDER.parent / "family.toml").read_text())
    assert facts["voice_languages"] == {f"{letter}*": code for letter, code in voices.LANGUAGES.items()}


def segment(line: str) -> Iterator[str]:
    """Stands in for the segmenter: cuts after every full stop."""
    return (match[0] for match in re.finditer(r"[^.!?।]*[.!?।]*\s*", line) if match[0])


def split(text: str) -> list[str]:
    return [sentence.text for sentence in splitting.sentences(text, segment) if sentence]


@given(st.text(alphabet="ab .,;:!?—\n", max_size=400), st.integers(1, 60))
@example("a" * 2000, 510)
@example("", 510)
def test_pieces_lose_nothing_and_fit(text: str, limit: int) -> None:
    found = list(splitting.pieces(text, limit))
    assert "".join(found) == text
    assert all(0 < len(piece) <= limit for piece in found)


def test_pieces_are_cut_at_the_best_place_and_about_equal() -> None:
    clause = "some words here, "
    found = list(splitting.pieces(clause * 20, 100))
    assert all(piece.rstrip().endswith(",") for piece in found)
    words = list(splitting.pieces("word " * 104, 510))
    assert [len(piece) for piece in words] == [260, 260]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Once. Twice!", ["Once.", "Twice!"]),
        ("M. Dupont est là.", ["M. Dupont est là."]),
        ("1. Apples and pears.", ["1. Apples and pears."]),
        ("Title\nText here.", ["Title", "Text here."]),
        ("a line that\nwas wrapped.", ["a line that was wrapped."]),
        ("वाक्य एक।\nवाक्य दो।", ["वाक्य एक।", "वाक्य दो।"]),
        ("Nice 👍🏽 work 👨‍👩‍👧 1️⃣.", ["Nice work 1 ."]),
        ("क्‍या", ["क्‍या"]),
        ("No.", ["No."]),
        (" \n \n", []),
        ("😀", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_breaks_say_what_follows() -> None:
    found = list(splitting.sentences("One here. Two here.\n \nThree " + "x" * 1500, segment))
    assert [sentence.end for sentence in found if sentence] == [
        Break.SENTENCE,
        Break.PARAGRAPH,
        Break.CLAUSE,
        Break.PARAGRAPH,
    ]


@pytest.fixture
def catalogue(tmp_path: Path) -> object:
    for name in ("af_heart", "bm_george", "jf_alpha", "zf_xiaoyi"):
        np.arange(510 * 256, dtype=np.float32).tofile(tmp_path / f"{name}.bin")
    (tmp_path / "ef_short.bin").write_bytes(b"1234")
    return voices.Voices(tmp_path)


def test_voices_are_read_and_japanese_and_chinese_left_out(catalogue: voices.Voices) -> None:  # type: ignore[name-defined]
    assert catalogue.names() == ["af_heart", "bm_george", "ef_short"]
    assert catalogue.style("af_heart").shape == (510, 256)
    assert catalogue.style("af_heart")[1, 0] == 256


@pytest.mark.parametrize(
    "name", ["", "nobody", "jf_alpha", "../af_heart", "/etc/passwd", "af_heart.bin", "af_heart\x00", "x" * 9999]
)
def test_unknown_voices_are_refused_with_the_list(catalogue: voices.Voices, name: str) -> None:  # type: ignore[name-defined]
    with pytest.raises(InvalidInput, match="af_heart, bm_george") as error:
        catalogue.style(name)
    assert error.value.param == "voice"
    assert len(str(error.value)) < 300


def test_a_damaged_voice_file_is_our_fault(catalogue: voices.Voices) -> None:  # type: ignore[name-defined]
    with pytest.raises(RuntimeError, match="ef_short"):
        catalogue.style("ef_short")


@pytest.mark.parametrize(
    ("voice", "asked", "language"),
    [
        ("af_heart", "", "en-us"),
        ("bf_emma", "", "en-gb"),
        ("bf_emma", "en", "en-gb"),
        ("af_heart", "en-GB", "en-gb"),
        ("af_heart", "en_AU", "en-us"),
        ("ef_dora", "en", "en-us"),
        ("pf_dora", "PT", "pt-br"),
        ("pf_dora", "pt-PT", "pt-br"),
        ("ff_siwis", "fr-FR", "fr"),
        ("hf_alpha", "", "hi"),
    ],
)
def test_language(voice: str, asked: str, language: str) -> None:
    assert voices.language_of(voice, asked) == language


@pytest.mark.parametrize("asked", ["ja", "zz", "-", "english", "x" * 9999])
def test_unknown_languages_are_refused_with_the_list(asked: str) -> None:
    with pytest.raises(InvalidInput, match="en-us, en-gb, es") as error:
        voices.language_of("af_heart", asked)
    assert error.value.param == "language"
    assert len(str(error.value)) < 300


def test_unknown_phonemes_are_dropped() -> None:
    table = vocabulary.Vocabulary.read(FOLDER / "vocabulary.json")
    assert table.known("hʘ€i\n") == "hi"
    assert table.tokens("hi") == [0, 50, 51, 0]


@pytest.mark.parametrize(("phonemes", "audible"), [("", False), ("... !?", False), ("ˈˌ", False), ("a.", True)])
def test_is_audible(phonemes: str, audible: bool) -> None:
    assert vocabulary.is_audible(phonemes) is audible


def test_silence_around_speech_is_cut_without_a_click() -> None:
    speech = np.full(24_000, 0.5, np.float32)
    raw = np.concatenate([np.zeros(7200, np.float32), speech, np.zeros(12_000, np.float32)])
    found = audio.trimmed(raw, 24_000)
    assert len(found) == pytest.approx(24_000 * 1.18, abs=2)
    assert found[0] == found[-1] == 0
    assert len(audio.trimmed(np.zeros(100, np.float32), 24_000)) == 0
    assert np.abs(audio.trimmed(speech, 24_000)[:3]).max() < 0.05


def test_pcm_is_clipped_and_comes_after_the_pause() -> None:
    found = audio.pcm(np.array([2.0, -2.0, 0.5], np.float32), 0.1, 24_000)
    assert found.dtype == np.int16
    assert found[:2400].tolist() == [0] * 2400
    assert found[2400:].tolist() == [32767, -32767, 16383]
