"""What an engine's folder says of it, and engines besides talkies' own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from talkies import families
from talkies.engines.repository import render
from talkies.errors import StartupError
from talkies.families import MODEL_REPOSITORY, Modality
from talkies.registry import HubSource, Registry
from talkies.settings import Settings
from talkies.setup import environments

FACTS = 'modality = "asr"\nfiles = ["*.bin"]\nrequired = []\nlanguages = ["en"]\n'


def engine(folder: Path, facts: str = FACTS) -> Path:
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").touch()
    (folder / "family.toml").write_text(facts)
    return folder


def test_the_shipped_engines() -> None:
    shipped = families.load()
    assert {name: (family.modality, family.environment) for name, family in shipped.items()} == {
        "canary_multitask": (Modality.ASR, "nemo"),
        "canary_salm": (Modality.ASR, "nemo"),
        "kokoro": (Modality.TTS, "kokoro"),
        "parakeet": (Modality.ASR, "nemo"),
        "qwen3_tts": (Modality.TTS, "qwen3_tts"),
        "whisper": (Modality.ASR, "whisper"),
    }
    assert {name for name, family in shipped.items() if family.translates} == {"whisper", "canary_multitask"}
    assert {name for name, family in shipped.items() if not family.timestamps} == {"canary_salm"}
    assert {name for name, family in shipped.items() if family.logprobs} == {"whisper"}
    assert {name for name, family in shipped.items() if family.clones} == {"qwen3_tts"}
    assert {name for name, family in shipped.items() if family.repeats} == {"kokoro"}
    assert {name for name, family in shipped.items() if family.slow_on_cpu} == {"qwen3_tts"}
    assert {name: family.sample_rate for name, family in shipped.items() if family.sample_rate} == {
        "kokoro": 24_000,
        "qwen3_tts": 24_000,
    }
    assert all((MODEL_REPOSITORY / family.environment / "requirements.txt").is_file() for family in shipped.values())


def test_an_engine_of_another_folder_is_served_like_the_shipped_ones(tmp_path: Path) -> None:
    folder = engine(tmp_path / "engines" / "mine")
    models = tmp_path / "models.json"
    models.write_text(json.dumps({"models": {"m": {"executor": "mine", "repo": "a/b"}}}))
    settings = Settings(data_dir=tmp_path / "data", engines_dir=tmp_path / "engines", models_file=models)
    registry = Registry.load(models, engines=settings.engines_dir)
    assert registry["m"].executor.folder == folder
    assert registry["m"].sources == (HubSource(("*.bin",)),)
    target = render(settings, registry)
    assert str(settings.envs / "mine") in (target / "m.engine" / "config.pbtxt").read_text()
    assert (target / "m.engine" / "1" / "model.py").is_file()
    assert (target / "m" / "config.pbtxt").is_file()
    with pytest.raises(StartupError, match=r"no .*/mine/requirements\.txt, which would say"):
        environments.build(settings, ["mine"], lambda family: None)
    with pytest.raises(StartupError, match=r"executor must be one of .*, not 'mine'"):
        Registry.load(models)


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "nemo").mkdir()
    assert families.folder_of("nemo", tmp_path) == families.folder_of("nemo", None) == MODEL_REPOSITORY / "nemo"
    assert families.folder_of("mine", tmp_path) == tmp_path / "mine"


@pytest.mark.parametrize("name", ["whisper", "kit", "audio_chunks", "nemo"])
def test_no_engine_takes_the_place_of_a_shipped_folder(tmp_path: Path, name: str) -> None:
    engine(tmp_path / name)
    with pytest.raises(StartupError, match="talkies has a folder of that name itself"):
        families.load(tmp_path)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ("modality", "cannot be read: "),
        (FACTS.replace("asr", "video"), "modality: Input should be 'asr' or 'tts'"),
        (FACTS.replace('["*.bin"]', "[]"), "files: .*at least 1"),
        (FACTS.replace('["en"]', "[]"), "languages: .*at least 1"),
        (FACTS.replace("required = []\n", ""), "required: Field required"),
        (FACTS + "colour = 1\n", "colour: Unexpected keyword argument"),
        (FACTS + "sample_rate = 24000\n", "an ASR engine has no sample_rate"),
        (FACTS.replace("asr", "tts"), "a TTS engine has a sample_rate of 8000"),
        (FACTS.replace("asr", "tts") + "sample_rate = 24\n", "a TTS engine has a sample_rate of 8000"),
    ],
)
def test_what_is_wrong_with_an_engine_is_one_sentence(tmp_path: Path, facts: str, sentence: str) -> None:
    path = engine(tmp_path / "mine", facts) / "family.toml"
    with pytest.raises(StartupError, match=sentence) as caught:
        families.load(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_folder_without_the_engine_is_said_to_lack_it(tmp_path: Path) -> None:
    (engine(tmp_path / "mine") / "1" / "model.py").unlink()
    with pytest.raises(StartupError, match=r"mine lacks 1/model\.py\.$"):
        families.load(tmp_path)


def test_a_missing_folder_of_engines_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"TALKIES_ENGINES_DIR: .* is no folder\.$"):
        families.load(tmp_path / "absent")
