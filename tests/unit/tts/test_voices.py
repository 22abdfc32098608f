"""The voices of an engine that is none of talkies' own, as its family.toml tells them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from talkies.errors import BadRequest
from talkies.registry import Registry
from talkies.settings import Settings
from talkies.tts.voices import Voices

FACTS = """\
modality = "tts"
files = ["*"]
required = ["speakers/*"]
sample_rate = 16000
languages = ["en", "de"]
voice_languages = { "bob" = "de", "b*" = "en", "e*" = "en" }
voice_genders = { "e*" = "female" }
voices = ["speakers/*.npz", "speakers/extra/*.npz"]
hidden_voices = ["test-*"]
openai_voices = { alloy = "ann", nova = "gone" }
"""


def catalogue(tmp_path: Path, **values: Any) -> tuple[Voices, Registry]:
    engine = tmp_path / "engines" / "mine"
    (engine / "1").mkdir(parents=True)
    (engine / "1" / "model.py").touch()
    (engine / "family.toml").write_text(FACTS)
    models = tmp_path / "models.json"
    models.write_text(json.dumps({"models": {"m": {"executor": "mine", "repo": "a/b", "default_voice": "bob"}}}))
    speakers = tmp_path / "data" / "models" / "m" / "speakers"
    (speakers / "extra").mkdir(parents=True)
    for name in ("bob.npz", "ann.npz", "test-1.npz", "extra/eve.npz", "notes.txt"):
        (speakers / name).touch()
    settings = Settings(data_dir=tmp_path / "data", engines_dir=tmp_path / "engines", models_file=models, **values)
    registry = Registry.load(models, engines=settings.engines_dir)
    return Voices(settings, registry), registry


def test_its_voices_are_the_files_that_it_names(tmp_path: Path) -> None:
    voices, _ = catalogue(tmp_path)
    assert [(voice.name, voice.default) for voice in voices.all()] == [("ann", False), ("bob", True), ("eve", False)]


def test_what_they_speak_and_who_they_sound_like(tmp_path: Path) -> None:
    voices, _ = catalogue(tmp_path)
    found = {voice.name: (voice.language, voice.gender) for voice in voices.all()}
    assert found == {"ann": (None, None), "bob": ("de", None), "eve": ("en", "female")}


@pytest.mark.parametrize(
    ("label", "language"),
    [
        *[("German\n", "de"), ("pt-BR", "pt"), ("\ufeffJapanese", "ja"), (" \n", "en"), (None, "en")],
        *[("Auto", None), ("Klingon", None), ("x" * 100_000, None)],
    ],
)
def test_a_clip_speaks_what_its_file_says(tmp_path: Path, label: str | None, language: str | None) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.custom_voices.mkdir()
    (settings.custom_voices / "jane.wav").touch()
    if label is not None:
        (settings.custom_voices / "jane.lang").write_text(label)
    registry = Registry.load(settings.models_file)
    voices = {voice.name: voice for voice in Voices(settings, registry).of(registry["qwen3-tts-0.6b"])}
    assert (voices["jane"].language, voices["jane"].origin, voices["jane"].gender) == (language, "custom", None)
    assert (voices["alloy"].language, voices["alloy"].origin) == ("en", "builtin")


def test_openais_names_stand_for_what_it_says_if_they_may(tmp_path: Path) -> None:
    voices, registry = catalogue(tmp_path, openai_voices=True)
    assert voices.resolve(registry["m"], "alloy") == "ann"
    assert voices.resolve(registry["m"], "") == "bob"
    for name in ("nova", "echo", "test-1"):
        with pytest.raises(BadRequest, match="its voices are ann, bob, eve") as caught:
            voices.resolve(registry["m"], name)
        assert caught.value.param == "voice"
    (tmp_path / "other").mkdir()
    without, registry = catalogue(tmp_path / "other")
    with pytest.raises(BadRequest):
        without.resolve(registry["m"], "alloy")
