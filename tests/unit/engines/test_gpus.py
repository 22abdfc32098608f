"""What tritonserver and its engines are told of GPUs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from talkies.engines import gpus
from talkies_kit import cuda


@pytest.mark.parametrize(("allowed", "device", "chosen"), [("", "cuda:1", "1"), ("3,GPU-7", "cuda:1", "GPU-7")])
def test_tritonserver_sees_no_gpu_and_the_engine_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, allowed: str, device: str, chosen: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    environment = gpus.environment(tmp_path)
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    with pytest.MonkeyPatch.context() as stub:
        for name, value in environment.items():
            stub.setenv(name, value)
        assert cuda.choose(device) == "cuda:0"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == chosen
