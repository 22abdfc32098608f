"""The bench of the engines: its refusal without a GPU, how it reads a GPU's memory, and its table."""

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


def test_rows_have_a_cell_for_every_column_and_reasons_stand_in_the_third() -> None:
    figures = engines.Figures(1.5, 0.25, 0.125, 270, 400.6, 271, 130, gone=False)
    measured = engines._line(["a", "whisper", "real", *engines._cells(figures)])
    assert measured == "| a | whisper | real | 1.50 | 0.25 | 0.12 | 270 | 401 | 271 | 130 | STILL THERE |"
    refused = engines._line(["b", "nobody's", "it has no weights"])
    assert refused.startswith("| b | nobody's | it has no weights |")
    assert measured.count("|") == refused.count("|") == len(engines.COLUMNS) + 1
