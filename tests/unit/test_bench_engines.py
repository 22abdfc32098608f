"""The bench of the engines: its refusal without a GPU, and how it reads a GPU's memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from talkies.settings import Settings

from benchmarks import engines


def test_without_a_gpu_it_ends_with_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "NVIDIA_SMI", str(tmp_path / "nvidia-smi"))
    with pytest.raises(SystemExit, match="--gpu needs an NVIDIA GPU") as end:
        engines.measure_engines(Settings(data_dir=tmp_path), [], gpu=True, tiny=False)
    assert isinstance(end.value.code, str) and "\n" not in end.value.code  # printed, with status 1


@pytest.mark.parametrize(("device", "index"), [("auto", 0), ("cuda", 0), ("cuda:1", 1)])
def test_the_memory_is_that_of_the_gpu_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, index: int
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text('#!/bin/sh\n[ "$1" = --id=0 ] && echo 512 || echo 1024\n')
    command.chmod(0o700)
    monkeypatch.setattr(engines, "NVIDIA_SMI", str(command))
    assert engines._gpu_memory(Settings(device=device))() == (512, 1024)[index]


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="There is no model 'nobody'"):
        engines.measure_engines(Settings(data_dir=tmp_path), ["nobody"], gpu=False, tiny=True)
