"""Fields become a plan: what reaches the model, and every combination that is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from talkies.asr import formats
from talkies.asr.plan import Plan, TranscriptionFields, TranslationFields, plan_of
from talkies.asr.subtitles import Layout
from talkies.asr.transcript import merge
from talkies.engines.triton import ChunkAnswer
from talkies.errors import BadRequest, ModelNotFound
from talkies.registry import Registry
from talkies.settings import PROJECT
from talkies_kit.wire import Segment

REGISTRY = Registry.load(PROJECT / "models.json", default_asr="whisper-base", default_tts="kokoro-82m")


def planned(model: str = "whisper-base", **fields: Any) -> Plan:
    return plan_of(REGISTRY, TranscriptionFields(model=model, **fields))


def translated(model: str = "whisper-base", **fields: Any) -> Plan:
    return plan_of(REGISTRY, TranslationFields(model=model, **fields), task="translate")


def test_defaults() -> None:
    made = planned("whisper-1")
    assert made.model.slug == "whisper-base"
    assert made.options.to_parameters() == {"text_only": True}
    assert not made.diarize
    assert made.format is formats.FORMATS["json"]


def test_a_models_own_language() -> None:
    assert planned("canary-1b-flash").options.language == "en"
    assert planned("canary-1b-flash", language="de").options.language == "de"


@pytest.mark.parametrize(
    ("fields", "language"),
    [
        ({"languages": ["de"]}, "de"),
        ({"languages": ["de-DE", "de_AT"]}, "de"),
        ({"language": "es", "languages": ["de"]}, "es"),
        ({"language": "es", "languages": ["de", "fr"]}, "es"),
        ({"languages": ["de", "auto"]}, ""),
        ({"languages": []}, ""),
    ],
)
def test_a_single_language_is_the_language(fields: dict[str, Any], language: str) -> None:
    options = planned(**fields).options
    assert (options.language, options.languages) == (language, ())


@pytest.mark.parametrize(
    ("model", "sent", "languages"),
    [
        ("whisper-base", ["de", "fr"], ("de", "fr")),
        ("whisper-base", ["German", "fr-CA", "nb", "fr"], ("de", "fr", "no")),
        ("canary-1b-flash", ["de", "fr"], ("de", "fr")),
        ("canary-1b-flash", ["de", "en"], ("en", "de")),  # it takes the first
    ],
)
def test_several_languages_are_those_to_choose_from(model: str, sent: list[str], languages: tuple[str, ...]) -> None:
    options = planned(model, languages=sent).options
    assert options.language == ""
    assert sorted(options.languages) == sorted(languages) and options.languages[0] == languages[0]


@pytest.mark.parametrize(
    ("sent", "knobs"),
    [
        ("auto", (None, None, None)),
        ({"type": "auto"}, (None, None, None)),
        ({"type": "server_vad"}, (None, None, None)),
        ({"type": "server_vad", "threshold": "0.4", "silence_duration_ms": 200}, (0.4, 200, None)),
        ('{"type": "server_vad", "prefix_padding_ms": 300}', (None, None, 300)),
    ],
)
def test_how_audio_is_cut(sent: Any, knobs: tuple[float | None, ...]) -> None:
    options = planned(chunking_strategy=sent).options
    assert (options.vad_threshold, options.vad_min_silence_ms, options.vad_speech_pad_ms) == knobs


@pytest.mark.parametrize(
    "sent",
    ["manual", "{", "{}", "[1]", {"type": "server_vad", "threshold": 2}, {"type": "server_vad", "threshold": "x"}],
)
def test_a_wrong_way_to_cut(sent: Any) -> None:
    with pytest.raises(ValidationError):
        planned(chunking_strategy=sent)


@pytest.mark.parametrize("model", ["whisper-1", "whisper-base"])
def test_log_probabilities_are_made_when_asked_for(model: str) -> None:
    assert not planned(model, include=["progress"]).options.logprobs
    made = planned(model, include=["logprobs"])
    assert made.options.to_parameters() == {"text_only": True, "logprobs": True}
    assert made.asked.logprobs


def test_the_layout_of_subtitles() -> None:
    assert planned().asked.layout == Layout(42, 2, 7.0)
    made = planned(max_line_width="30", max_line_count=1, max_cue_seconds=4)
    assert made.asked.layout == Layout(30, 1, 4.0)


def test_keywords_join_the_prompt() -> None:
    assert planned(keywords=["Ada", "Grace Hopper"]).options.prompt == "Ada, Grace Hopper"
    assert planned(prompt="A talk.", keywords=["Ada"]).options.prompt == "A talk. Ada"


@pytest.mark.parametrize(
    ("names", "speakers"),
    [([], ("L", "R")), (["Ann"], ("Ann", "R")), (["Ann", " Bob ", "Cy", "Di"], ("Ann", "Bob"))],
)
def test_speakers(names: list[str], speakers: tuple[str, str]) -> None:
    made = planned(response_format="diarized_json", known_speaker_names=names)
    assert made.diarize and made.asked.speakers == speakers
    assert not made.options.text_only


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"model": "kokoro-82m"}, "model", "speaks"),
        ({"response_format": "docx"}, "response_format", "verbose_json"),
        ({"language": "xx"}, "language", "xx"),
        ({"languages": ["de", "xx"]}, "languages", "xx"),
        ({"response_format": "srt", "stream": True}, "response_format", "json, text, verbose_json, diarized_json"),
        ({"response_format": "verbose_json", "include": ["logprobs"]}, "include", "response_format json"),
        ({"response_format": "srt", "include": ["progress", "logprobs"]}, "include", "^srt has no log"),
        ({"model": "canary-1b-flash", "include": ["logprobs"]}, "include", "models that do: whisper-base"),
        ({"known_speaker_names": ["a"] * 5}, "known_speaker_names", "4"),
    ],
)
def test_fields_that_do_not_fit(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as caught:
        planned(**fields)
    assert caught.value.param == param


def test_an_unknown_model() -> None:
    with pytest.raises(ModelNotFound):
        planned("nope")


def test_a_translation_is_into_english() -> None:
    made = translated(language="de", response_format="verbose_json")
    assert (made.options.task, made.options.language, made.options.target_language) == ("translate", "de", "en")
    chunks = [ChunkAnswer(0, -1, 0, 2, "de", [Segment(0, 1, " Good morning")])]
    body = json.loads(made.render(merge(chunks, task="translate", language="de", diarized=False)))
    assert (body["task"], body["language"], body["text"]) == ("translate", "english", "Good morning")


@pytest.mark.parametrize("model", ["parakeet-tdt-0.6b-v3", "canary-qwen-2.5b", "canary-180m-flash"])
def test_models_that_cannot_translate_name_those_that_can(model: str) -> None:
    with pytest.raises(BadRequest, match=r"whisper-base.*canary-1b-flash") as caught:
        translated(model)
    assert caught.value.param == "model"
    assert "parakeet" not in caught.value.message.partition(";")[2]


def test_a_translation_has_no_speakers() -> None:
    with pytest.raises(BadRequest) as caught:
        translated(response_format="diarized_json")
    assert caught.value.param == "response_format"


@pytest.mark.parametrize("task", ["translate", "ast", "s2t_translation"])
def test_a_slug_may_be_made_for_translation(task: str) -> None:
    model = replace(REGISTRY["canary-1b-flash"], default_source_lang="de", default_target_lang="fr", default_task=task)
    options = plan_of(Registry([model]), TranscriptionFields(model="canary-1b-flash")).options
    assert (options.task, options.language, options.target_language) == ("translate", "de", "fr")
