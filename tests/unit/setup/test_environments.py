"""Which lock and which device an environment gets, and where PyTorch's CPU build is looked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from talkies import settings
from talkies.families import MODEL_REPOSITORY
from talkies.settings import Settings
from talkies.setup import environments, package_index

NEMO = MODEL_REPOSITORY / "nemo"


@pytest.mark.parametrize(
    ("asked", "driver", "nemo", "whisper"),
    [
        ("auto", False, "cpu", "cpu"),
        ("auto", True, "cuda:0", "cpu"),
        ("cpu", True, "cpu", "cpu"),
        ("cuda", False, "cuda:0", "cuda:0"),
        ("cuda:1", True, "cuda:1", "cuda:1"),
    ],
)
def test_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, driver: bool, nemo: str, whisper: str
) -> None:
    monkeypatch.setattr(settings, "_NVIDIA", tmp_path if driver else tmp_path / "absent")
    chosen = Settings(data_dir=tmp_path, device=asked)
    assert (environments.device(chosen, "nemo"), environments.device(chosen, "whisper")) == (nemo, whisper)


@pytest.mark.parametrize(("asked", "lock"), [("cpu", "requirements.txt"), ("cuda:1", "requirements-cuda.txt")])
def test_an_environment_is_stale_when_it_was_built_for_the_other_device(tmp_path: Path, asked: str, lock: str) -> None:
    stamp = tmp_path / "envs" / "nemo" / ".talkies"
    stamp.parent.mkdir(parents=True)
    stamp.write_text(environments._fingerprint(NEMO / lock, stamp.parent))
    assert environments.is_built(Settings(data_dir=tmp_path, device=asked), "nemo")
    assert not environments.is_built(Settings(data_dir=tmp_path, device="cuda" if asked == "cpu" else "cpu"), "nemo")


def test_torch_for_the_cpu_comes_from_a_folder_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wheels").mkdir()
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path / 'absent'} {tmp_path / 'empty'} file://{tmp_path / 'wheels'}")
    assert package_index.find_links() == [tmp_path / "empty", tmp_path / "wheels"]
    assert environments._torch(NEMO / "requirements.txt") == ["--torch-backend", "cpu"]
    (tmp_path / "wheels" / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    assert environments._torch(NEMO / "requirements.txt") == ["--find-links", str(tmp_path / "wheels")]


def test_torch_for_cuda_comes_from_the_index() -> None:
    assert environments._torch(NEMO / "requirements-cuda.txt") == []
    assert environments._torch(MODEL_REPOSITORY / "whisper" / "requirements.txt") == []


def test_an_environment_is_stale_where_it_was_not_made(tmp_path: Path) -> None:
    """A virtual environment that was moved does not work, and one that was copied works in the other's folder."""
    here, there = (
        Settings(data_dir=tmp_path / "here", device="cpu"),
        Settings(data_dir=tmp_path / "there", device="cpu"),
    )
    stamp = here.envs / "nemo" / ".talkies"
    stamp.parent.mkdir(parents=True)
    stamp.write_text(environments._fingerprint(NEMO / "requirements.txt", stamp.parent))
    assert environments.is_built(here, "nemo")
    shutil.copytree(here.envs, there.envs)
    assert not environments.is_built(there, "nemo")
    (tmp_path / "link").symlink_to(tmp_path / "here")
    assert environments.is_built(Settings(data_dir=tmp_path / "link", device="cpu"), "nemo")
