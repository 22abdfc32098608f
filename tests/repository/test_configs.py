"""Every config.pbtxt parses, and names its tensors as `talkies_kit.wire` does."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from packaging.requirements import Requirement
from talkies import families
from talkies.engines.repository import render
from talkies.families import Family, Modality
from talkies.registry import Registry
from talkies.settings import PROJECT, Settings
from talkies_kit import wire
from tritonclient.grpc import model_config_pb2

REPOSITORY = PROJECT / "model_repository"
LOCKS_FOR_CUDA = sorted((PROJECT / "model_repository").glob("*/requirements-cuda.txt"))
CHUNK = {wire.START, wire.INDEX, wire.CHANNEL, wire.DURATION}
TENSORS = {
    "audio_chunks/config.pbtxt": ({wire.AUDIO}, {wire.PCM, wire.SPEECH, wire.ERROR, *CHUNK}),
    "asr.pbtxt": ({wire.PCM, wire.SPEECH, wire.START}, {wire.SEGMENTS, wire.LANGUAGE, wire.ERROR}),
    "tts.pbtxt": ({wire.TEXT, wire.VOICE, wire.LANGUAGE, wire.SPEED}, {wire.PCM, wire.ERROR}),
    "ensemble.pbtxt": (
        {wire.AUDIO},
        {wire.SEGMENTS, wire.LANGUAGE, wire.ERROR, wire.AUDIO_ERROR, *CHUNK},
    ),
}


def parse(path: Path) -> Any:
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


@pytest.mark.parametrize("name", TENSORS)
def test_tensor_names(name: str) -> None:
    config = parse(REPOSITORY / name)
    inputs, outputs = TENSORS[name]
    assert {tensor.name for tensor in config.input} == inputs
    assert {tensor.name for tensor in config.output} == outputs


@pytest.mark.parametrize("family", families.load().values(), ids=lambda family: family.name)
def test_engines_have_the_tensors_of_their_modality(family: Family) -> None:
    own = family.folder / "config.pbtxt"
    config = parse(own) if own.is_file() else model_config_pb2.ModelConfig()
    assert not config.input and not config.output and not config.parameters
    assert (config.max_batch_size > 1) is (family.modality is Modality.ASR)


def test_rendered_tree(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    registry = Registry.load(settings.models_file)
    target = render(settings, registry)
    configs = {path.parent.name: parse(path) for path in target.glob("*/config.pbtxt")}
    assert {"audio_chunks", "whisper-base", "whisper-base.engine", "whisper-large-v3.engine", "kokoro-82m"} <= set(
        configs
    )
    for name, config in configs.items():
        assert config.name == name
        if config.platform == "ensemble":
            steps = [step.model_name for step in config.ensemble_scheduling.step]
            assert steps == ["audio_chunks", f"{name}.engine"]
        else:
            assert config.parameters["EXECUTION_ENV_PATH"].string_value.startswith(str(settings.envs))
            assert (target / name / "1" / "model.py").is_file()
            # A queue bound in an ensemble's member makes Triton < 26.02 hang for ever.
            assert config.dynamic_batching.default_queue_policy.max_queue_size == 0
        if name.endswith(".engine"):
            assert config.dynamic_batching.priority_levels == 2


def test_rendering_again_leaves_no_old_model(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    render(settings, Registry.load(settings.models_file))
    target = render(settings, Registry.load(settings.models_file, ["whisper-base"]))
    assert {path.name for path in target.iterdir()} == {"audio_chunks", "whisper-base", "whisper-base.engine"}


@pytest.mark.parametrize("allowed", [False, True])
def test_qwen3_tts_is_told_where_the_clips_are_and_whether_the_cpu_will_do(tmp_path: Path, allowed: bool) -> None:
    settings = Settings(data_dir=tmp_path, allow_slow_cpu=allowed)
    target = render(settings, Registry.load(settings.models_file, ["qwen3-tts-0.6b"]))
    parameters = parse(target / "qwen3-tts-0.6b" / "config.pbtxt").parameters
    builtin, custom = parameters[wire.CONFIG_VOICE_FOLDERS].string_value.split(":")
    assert (Path(builtin) / "alloy.wav").is_file()
    assert Path(custom) == tmp_path / "custom-voices"
    assert parameters[wire.CONFIG_REFUSE_CPU].string_value == str(not allowed).lower()
    assert parameters[wire.CONFIG_SAMPLE_RATE].string_value == "24000"


def test_engines_of_one_environment_share_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, device="cuda:1")
    target = render(settings, Registry.load(settings.models_file))
    parameters = parse(target / "canary-180m-flash.engine" / "config.pbtxt").parameters
    assert parameters["EXECUTION_ENV_PATH"].string_value == str(settings.envs / "nemo")
    assert parameters[wire.CONFIG_DEVICE].string_value == "cuda:1"


def pins(family: str, lock: str) -> dict[str, str]:
    lines = (PROJECT / "model_repository" / family / lock).read_text().splitlines()
    return dict(line.split()[0].split("==") for line in lines if line[:1].isalpha())


@pytest.mark.parametrize("project", [PROJECT, REPOSITORY / "kit"], ids=["talkies", "kit"])
def test_what_builds_our_own_packages_is_pinned(project: Path) -> None:
    asked = tomllib.loads((project / "pyproject.toml").read_text())["build-system"]["requires"]
    pinned = pins("kit", "requirements-build.txt")
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(pinned[requirement.name])
    assert "editables" in pinned  # which hatchling asks for besides


@pytest.mark.parametrize("family", ["tritonserver", "audio_chunks", "whisper", "kokoro"])
def test_quickstart_environments_hold_no_torch(family: str) -> None:
    names = pins(family, "requirements.txt")
    assert names and not [name for name in names if name.startswith(("torch", "nvidia-c", "triton"))]


@pytest.mark.parametrize("family", sorted(path.parent.name for path in LOCKS_FOR_CUDA))
def test_the_lock_for_the_cpu_brings_no_cuda(family: str) -> None:
    cpu, cuda = pins(family, "requirements.txt"), pins(family, "requirements-cuda.txt")
    assert not [name for name in cpu if name.startswith("nvidia-cu")]
    assert [name for name in cuda if name.startswith("nvidia-cublas")]
    if "torch" in cpu:
        assert cpu.pop("torch") == f"{cuda['torch']}+cpu"
    assert {name: cuda.get(name) for name in cpu} == cpu
