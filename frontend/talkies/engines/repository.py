"""Turns models.json and the engines' folders into the tree that tritonserver serves.

Per ASR slug an ensemble `<slug>` and its engine `<slug>.engine`, per TTS slug one model, and `audio_chunks` once.
"""

from __future__ import annotations

import compileall
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from talkies_kit import wire
from tritonclient.grpc import model_config_pb2

from talkies.families import MODEL_REPOSITORY, Modality
from talkies.registry import Model, Registry
from talkies.settings import Settings
from talkies.setup import environments, weights

_CONFIG = "config.pbtxt"
_CUDA_CONFIG = "config.cuda.pbtxt"
"""What is different on a GPU."""


def render(settings: Settings, registry: Registry) -> Path:
    """Write the served repository and return it; what it held before is gone."""
    target = settings.repository
    staging = target.with_name(f".{target.name}.new")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    knobs = {
        wire.CONFIG_AUDIO_ROOTS: os.pathsep.join(str(root) for root in (settings.files, settings.uploads)),
        wire.CONFIG_MAX_AUDIO_SECONDS: str(settings.max_audio_seconds),
        wire.CONFIG_VAD_CHUNK_THRESHOLD: str(settings.vad_chunk_threshold),
        wire.CONFIG_VAD_MAX_SPEECH: str(settings.vad_max_speech),
        wire.CONFIG_VAD_MIN_SILENCE_MS: str(settings.vad_min_silence_ms),
        wire.CONFIG_VAD_SPEECH_PAD_MS: str(settings.vad_speech_pad_ms),
        wire.CONFIG_VAD_THRESHOLD: str(settings.vad_threshold),
    }
    chunker = MODEL_REPOSITORY / wire.AUDIO_CHUNKS
    _model(
        chunker,
        _parse(chunker / _CONFIG),
        environments.folder(settings, wire.AUDIO_CHUNKS),
        staging / wire.AUDIO_CHUNKS,
        knobs,
    )
    for model in registry.values():
        family = model.executor
        parameters = {
            wire.CONFIG_WEIGHTS: str(weights.folder(settings, model)),
            wire.CONFIG_DEVICE: environments.device(settings, family.environment),
            wire.CONFIG_CPU_THREADS: str(settings.cpu_threads),
            wire.CONFIG_REFUSE_CPU: str(family.slow_on_cpu and not settings.allow_slow_cpu).lower(),
        }
        if family.sample_rate:
            parameters[wire.CONFIG_SAMPLE_RATE] = str(family.sample_rate)
        if model.default_language:
            parameters[wire.CONFIG_DEFAULT_LANGUAGE] = model.default_language
        if family.clones:
            folders = family.clip_folders(settings).values()
            parameters[wire.CONFIG_VOICE_FOLDERS] = os.pathsep.join(map(str, folders))
        parts = [MODEL_REPOSITORY / f"{family.modality}.pbtxt", family.folder / _CONFIG]
        if parameters[wire.CONFIG_DEVICE] != "cpu":
            parts.append(family.folder / _CUDA_CONFIG)
        config = _parse(*(part for part in parts if part.is_file()))
        _model(
            family.folder, config, environments.folder(settings, family.environment), staging / model.engine, parameters
        )
        if model.modality is Modality.ASR:
            _ensemble(staging, model)
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)
    # Compiled in place, so that the stub writes no __pycache__ later: Triton takes a changed folder for a new version
    # and would load the model a second time beside the first.
    compileall.compile_dir(target, quiet=1)
    return target


def _model(source: Path, config: Any, environment: Path, target: Path, parameters: Mapping[str, str]) -> None:
    config.name = target.name
    for key, value in {**parameters, "EXECUTION_ENV_PATH": str(environment)}.items():
        config.parameters[key].string_value = value
    shutil.copytree(source / "1", target / "1", ignore=shutil.ignore_patterns("__pycache__"))
    _write(target, config)


def _ensemble(repository: Path, model: Model) -> None:
    config = _parse(MODEL_REPOSITORY / "ensemble.pbtxt")
    config.name = model.slug
    config.ensemble_scheduling.step[1].model_name = model.engine
    (repository / model.slug / "1").mkdir(parents=True)
    _write(repository / model.slug, config)


def _parse(*paths: Path) -> Any:
    """The configuration in the files, each on top of those before it."""
    config = model_config_pb2.ModelConfig()
    for path in paths:
        text_format.Merge(path.read_text(encoding="utf-8"), config)
    return config


def _write(folder: Path, config: Any) -> None:
    (folder / _CONFIG).write_text(text_format.MessageToString(config))
