"""The registry: the shipped file, and one sentence for each thing that can be wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkies.errors import ModelNotFound, StartupError
from talkies.families import Modality
from talkies.registry import HubSource, IndexSource, PathSource, Registry, is_slug
from talkies.settings import PROJECT

WHISPER = {"executor": "whisper", "repo": "someone/whisper"}
ARCHIVE = {"file": "a_b-1.0-py3-none-any.whl", "sha256": "0" * 64, "take": {"model.bin": "a/part"}}


def write(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "models.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def load(tmp_path: Path, models: Any, **options: Any) -> Registry:
    return Registry.load(write(tmp_path, {"models": models}), **options)


def test_the_shipped_registry_has_the_descriptions_slugs_and_whisper_base() -> None:
    registry = Registry.load(PROJECT / "models.json")
    assert list(registry) == [
        "whisper-base",
        "whisper-large-v3",
        "whisper-large-v3-turbo",
        "parakeet-tdt-0.6b-v3",
        "canary-180m-flash",
        "canary-1b-flash",
        "canary-qwen-2.5b",
        "kokoro-82m",
        "qwen3-tts-0.6b",
    ]
    assert [slug for slug, model in registry.items() if model.modality is Modality.TTS] == [
        "kokoro-82m",
        "qwen3-tts-0.6b",
    ]
    assert {slug: len(model.languages) for slug, model in registry.items()} == {
        "whisper-base": 99,
        "whisper-large-v3": 100,
        "whisper-large-v3-turbo": 100,
        "parakeet-tdt-0.6b-v3": 25,
        "canary-180m-flash": 1,
        "canary-1b-flash": 4,
        "canary-qwen-2.5b": 1,
        "kokoro-82m": 7,
        "qwen3-tts-0.6b": 10,
    }
    assert "yue" not in registry["whisper-base"].languages
    assert registry["canary-qwen-2.5b"].dependencies == ("Qwen/Qwen3-1.7B",)
    assert registry["kokoro-82m"].default_voice == "af_heart"
    assert registry["kokoro-82m"].executor.name == "kokoro"


def test_what_fits_two_cores_can_be_had_without_a_hub() -> None:
    registry = Registry.load(PROJECT / "models.json")
    for slug in ("whisper-base", "kokoro-82m"):
        assert any(isinstance(source, IndexSource) for source in registry[slug].sources)


def test_the_descriptions_translation_slug(tmp_path: Path) -> None:
    entry = {
        "repo": "nvidia/canary-1b-flash",
        "executor": "canary_multitask",
        "default_source_lang": "de",
        "default_target_lang": "en",
        "default_task": "s2t_translation",
        "languages": ["de"],
    }
    model = load(tmp_path, {"canary-1b-flash-de2en": entry})["canary-1b-flash-de2en"]
    assert (model.default_source_lang, model.default_target_lang, model.languages) == ("de", "en", ("de",))
    assert model.sources == (HubSource(("*.nemo",)),)


def test_every_kind_of_source(tmp_path: Path) -> None:
    sources = [
        {"path": "/models/w"},
        {"hub": ["*.bin"], "repo": "a/b", "revision": "v1", "rename": {"x": "y"}},
        {"index": [ARCHIVE]},
    ]
    path, hub, index = load(tmp_path, {"w": WHISPER | {"sources": sources}})["w"].sources
    assert path == PathSource(Path("/models/w"))
    assert hub == HubSource(("*.bin",), "a/b", "v1", {"x": "y"})
    assert isinstance(index, IndexSource)
    assert index.index[0].take == {"model.bin": "a/part"}


def test_enabled_models_narrow_the_registry(tmp_path: Path) -> None:
    registry = load(tmp_path, {"a": WHISPER, "b": WHISPER}, enabled=("b",))
    assert list(registry) == ["b"]
    with pytest.raises(ModelNotFound):
        registry.find("a")


def test_openai_names_stand_for_the_defaults_and_never_shadow_a_slug(tmp_path: Path) -> None:
    models = {"w": WHISPER, "k": {"executor": "kokoro", "repo": "a/b"}, "tts-1": {"executor": "kokoro", "repo": "c/d"}}
    registry = load(tmp_path, models, default_asr="w", default_tts="k")
    assert [registry.find(name).slug for name in ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")] == [
        "w"
    ] * 3
    assert [registry.find(name).slug for name in ("tts-1-hd", "gpt-4o-mini-tts")] == ["k"] * 2
    assert registry.find("tts-1").slug == "tts-1"
    assert list(registry) == ["w", "k", "tts-1"]


def test_an_unknown_model_is_answered_with_the_slugs(tmp_path: Path) -> None:
    registry = load(tmp_path, {"w": WHISPER})
    for name in ("nope", "tts-1", ""):
        with pytest.raises(ModelNotFound, match="the models are w") as caught:
            registry.find(name)
        assert caught.value.param == "model"


def test_the_first_of_each_kind_is_the_default(tmp_path: Path) -> None:
    models = {"k": {"executor": "kokoro", "repo": "a/b"}, "v": WHISPER, "w": WHISPER}
    registry = load(tmp_path, models)
    assert registry.find("whisper-1").slug == "v" and registry.find("tts-1").slug == "k"
    assert load(tmp_path, models, enabled=("w",)).find("whisper-1").slug == "w"


@pytest.mark.parametrize("slug", ["gone", "k"])
def test_a_default_that_is_not_served_is_one_sentence(tmp_path: Path, slug: str) -> None:
    models = {"k": {"executor": "kokoro", "repo": "a/b"}, "w": WHISPER}
    with pytest.raises(StartupError, match=f"TALKIES_DEFAULT_ASR_MODEL is {slug}, .*asr models that are served: w"):
        load(tmp_path, models, default_asr=slug)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"nothing\.json cannot be read: No such file or directory\.$"):
        Registry.load(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ([], "must be"),
        ({}, "must be"),
        ({"models": []}, "must be"),
        ({"models": {}}, "at least one model"),
        ({"models": {"w": WHISPER}, "more": 1}, "must be"),
        ({"models": {"w": 1}}, "must be an object"),
        ({"models": {"w": {"repo": "a/b"}}}, "executor must be one of canary_multitask, .*, not None"),
        (
            {"models": {"w": {"executor": "vosk", "repo": "a/b"}}},
            "executor must be one of canary_multitask, .*, not 'vosk'",
        ),
        ({"models": {"w": {"executor": [], "repo": "a/b"}}}, "executor must be one of"),
        ({"models": {"w": {"executor": "whisper"}}}, "repo is missing"),
        ({"models": {"w": WHISPER | {"repo": "no-owner"}}}, "repo: String should match"),
        ({"models": {"w": WHISPER | {"colour": "red"}}}, "colour is not a field of the registry"),
        ({"models": {"w": WHISPER | {"max_concurrency": 0}}}, "max_concurrency: Input should be greater than or equal"),
        ({"models": {"w": WHISPER | {"max_queue": -1}}}, "max_queue: Input should be greater than or equal to 0"),
        ({"models": {"w": WHISPER | {"slug": "x"}}}, "must be an object of the registry's fields"),
        ({"models": {"w": WHISPER | {"languages": []}}}, "not be empty"),
        ({"models": {"w": WHISPER | {"sources": []}}}, "not be empty"),
        ({"models": {"w": WHISPER | {"modality": "tts"}}}, "modality of executor whisper is asr, not tts"),
        ({"models": {"w": WHISPER | {"default_source_lang": "xx"}}}, "'xx' is not among its languages"),
        ({"models": {"w": WHISPER | {"sources": [{}]}}}, r"sources\.0: a source needs exactly one of"),
        ({"models": {"w": WHISPER | {"sources": ["hub"]}}}, r"sources\.0: a source needs exactly one of"),
        ({"models": {"w": WHISPER | {"sources": [{"hub": ["x"], "path": "y"}]}}}, "exactly one of"),
        ({"models": {"w": WHISPER | {"sources": [{"hub": []}]}}}, r"sources\.0\.hub: must name at least one file"),
        ({"models": {"w": WHISPER | {"sources": [{"index": []}]}}}, r"sources\.0\.index: must name an archive"),
        ({"models": {"w": WHISPER | {"sources": [{"index": [ARCHIVE | {"sha256": "1"}]}]}}}, r"index\.0\.sha256"),
        ({"models": {"w": WHISPER | {"sources": [{"index": [ARCHIVE | {"take": {}}]}]}}}, "must take a file"),
        ({"models": {"w": WHISPER | {"sources": [{"index": [ARCHIVE | {"file": "../x.whl"}]}]}}}, r"index\.0\.file"),
        (
            {"models": {"w": WHISPER | {"sources": [{"index": [ARCHIVE | {"take": {"../x": "y"}}]}]}}},
            "must be a relative path inside the model's folder",
        ),
        ({"models": {"w": WHISPER | {"sources": [{"path": "/x", "extra": 1}]}}}, r"sources\.0\.extra is not a field"),
        ({"models": {"audio_chunks": WHISPER}}, "a slug consists of"),
        ({"models": {"a/b": WHISPER}}, "a slug consists of"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(StartupError, match=sentence) as caught:
        Registry.load(write(tmp_path, content))
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "\n" not in message
    assert message.endswith((".", "with at least one model."))


def test_an_unknown_enabled_slug_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"TALKIES_ENABLED_MODELS names x, y, but .* only has w\.$"):
        load(tmp_path, {"w": WHISPER}, enabled=("y", "w", "x"))


@given(st.text(max_size=20))
def test_no_slug_leaves_its_folder(text: str) -> None:
    if is_slug(text):
        root = Path("/models")
        assert (root / text).parent == root
        assert not text.startswith(".")
        assert text.isascii()
        assert not any(character.isspace() or character in "/\\%:\0" for character in text)


@given(st.from_regex(r"[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,30}", fullmatch=True))
def test_plain_names_are_slugs_unless_reserved(text: str) -> None:
    assert is_slug(text) is not (text == "audio_chunks" or text.endswith(".engine"))


@pytest.mark.parametrize("text", ["", ".", "..", ".a", "a b", "a/b", "a\n", "ä", "audio_chunks", "w.engine", "x" * 129])
def test_these_are_no_slugs(text: str) -> None:
    assert not is_slug(text)
