"""What travels between facade and models comes back as it was."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkies_kit import wire
from talkies_kit.engine import EngineConfig
from talkies_kit.wire import AsrOptions, Fault, FaultCode, InvalidInput, Sampling, Segment, Token, Word

TIMES = st.floats(0, 1e5)
TOKENS = st.builds(Token, st.binary(max_size=4), st.floats(-70, 0))
WORDS = st.builds(Word, st.text(), TIMES, TIMES, st.lists(TOKENS, max_size=2).map(tuple))
SEGMENTS = st.builds(Segment, TIMES, TIMES, st.text(), st.lists(WORDS, max_size=3).map(tuple))
OPTIONS = st.builds(
    AsrOptions,
    language=st.text(max_size=5),
    languages=st.lists(st.from_regex(r"[a-z]{2,3}(-[A-Z]{2})?", fullmatch=True), max_size=4).map(tuple),
    task=st.sampled_from(wire.TASKS),
    target_language=st.text(max_size=5),
    prompt=st.text(),
    temperature=st.floats(0, 1),
    word_timestamps=st.booleans(),
    logprobs=st.booleans(),
    vad_threshold=st.none() | st.floats(0, 1),
    vad_min_silence_ms=st.none() | st.floats(0, 10_000),
    vad_speech_pad_ms=st.none() | st.floats(0, 5_000),
)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 2),
    top_k=st.none() | st.integers(0, 1000),
    top_p=st.none() | st.floats(0.01, 1),
    repetition_penalty=st.none() | st.floats(1, 2),
    max_new_tokens=st.none() | st.integers(1, 8192),
)


@given(st.lists(SEGMENTS, max_size=4))
def test_segments(segments: list[Segment]) -> None:
    assert wire.load_segments(wire.dump_segments(segments)) == segments


@given(st.builds(Fault, st.sampled_from(FaultCode), st.text(), st.text()))
def test_faults(fault: Fault) -> None:
    assert Fault.load(fault.dump()) == fault
    assert Fault.load("") is None


@given(OPTIONS)
def test_options(options: AsrOptions) -> None:
    sent = json.loads(json.dumps({"path": "a.wav", "channels": "mono", **options.to_parameters()}))
    assert AsrOptions.from_parameters(sent) == options


def test_default_options_send_nothing() -> None:
    assert AsrOptions().to_parameters() == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("temperature", "x"), ("temperature", "nan"), ("temperature", 1.5), ("task", "sing")],
        *[("vad_threshold", "loud"), ("vad_threshold", 1.5), ("vad_min_silence_ms", -1), ("vad_speech_pad_ms", 1e9)],
    ],
)
def test_wrong_options(name: str, value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        AsrOptions.from_parameters({name: value})
    assert caught.value.param == name


@given(SAMPLINGS)
def test_sampling(sampling: Sampling) -> None:
    sent = json.loads(json.dumps({"other": "x", **sampling.to_parameters()}))
    assert Sampling.from_parameters(sent) == sampling


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "x"),
        ("temperature", "nan"),
        ("temperature", "inf"),
        ("temperature", -0.1),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_p", 0),
        ("repetition_penalty", 0.9),
        ("max_new_tokens", 0),
    ],
)
def test_wrong_sampling(name: str, value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        Sampling.from_parameters({name: value})
    assert caught.value.param == name


def test_shifted() -> None:
    segment = Segment(1, 2, " a", (Word(" a", 1, 2),))
    assert segment.shifted(10) == Segment(11, 12, " a", (Word(" a", 11, 12),))


def test_engine_config() -> None:
    parameters = {"cpu_threads": {"string_value": "3"}, "max_audio_seconds": {"string_value": "21600.0"}}
    config = EngineConfig.parse({"model_config": json.dumps({"name": "m", "parameters": parameters})})
    assert (config.cpu_threads, config.number("max_audio_seconds")) == (3, 21_600)
    assert EngineConfig("m", {}).cpu_threads >= 1
    with pytest.raises(RuntimeError):
        _ = EngineConfig("m", {"weights": "/nonexistent"}).weights


@pytest.mark.parametrize(
    ("device", "refuse", "runs"), [("cpu", "true", False), ("cpu", "false", True), ("cuda:0", "true", True)]
)
def test_an_engine_that_is_too_slow_on_the_cpu_says_so(device: str, refuse: str, runs: bool) -> None:
    config = EngineConfig("m.engine", {"device": device, "refuse_cpu": refuse})
    with (
        contextlib.nullcontext()
        if runs
        else pytest.raises(RuntimeError, match=r"^m needs an NVIDIA GPU .*TALKIES_ALLOW_SLOW")
    ):
        config.check_device()
