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
    ("asked", "driver", "nemo", "kokoro"),
    [
        ("auto", False, "cpu", "cpu"),
        ("auto", True, "cuda:0", "cpu"),
        ("cpu", True, "cpu", "cpu"),
        ("cuda", False, "cuda:0", "cuda:0"),
        ("cuda:1", True, "cuda:1", "cuda:1"),
    ],
)
def test_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, driver: bool, nemo: str, kokoro: str
) -> None:
    monkeypatch.setattr(settings, "_NVIDIA", tmp_path if driver else tmp_path / "absent")
    chosen = Settings(data_dir=tmp_path, device=asked)
    assert (environments.device(chosen, "nemo"), environments.device(chosen, "kokoro")) == (nemo, kokoro)
    assert environments.device(chosen, "whisper") == nemo


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


def test_libraries_that_are_opened_by_name_lie_where_they_are_looked_for(tmp_path: Path) -> None:
    libraries = tmp_path / "lib" / "python3.11" / "site-packages" / "nvidia" / "cublas" / "lib"
    libraries.mkdir(parents=True)
    (libraries / "libcublas.so.12").write_text("x")
    environments._link_cuda(tmp_path, NEMO / "requirements-cuda.txt")
    assert not (tmp_path / "lib" / "libcublas.so.12").exists()  # PyTorch has its own
    environments._link_cuda(tmp_path, MODEL_REPOSITORY / "whisper" / "requirements-cuda.txt")
    assert (tmp_path / "lib" / "libcublas.so.12").read_text() == "x"


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


def _pretend(settings: Settings, root: Path, family: str) -> None:
    """An environment as `build` leaves it, as far as anybody looks."""
    stamp = root / family / ".talkies"
    stamp.parent.mkdir(parents=True)
    stamp.write_text(environments._fingerprint(environments._requirements(settings, family), stamp.parent))


def test_what_is_built_is_not_locked(tmp_path: Path) -> None:
    """In an image the folder is read-only, and belongs to another."""
    image = Settings(data_dir=tmp_path, envs_dir=tmp_path / "baked", device="cpu")
    _pretend(image, image.envs, "nemo")
    environments.build(image, ["nemo"], pytest.fail)
    assert [path.name for path in tmp_path.rglob("*")] == ["baked", "nemo", ".talkies"]


def test_further_environments_are_built_in_the_data_directory_where_the_first_folder_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Settings(data_dir=tmp_path / "data", envs_dir=tmp_path / "baked", device="cpu")
    _pretend(image, image.envs, "whisper")
    built = []
    monkeypatch.setattr(environments, "_build", lambda settings, family, place: built.append(place))
    environments.build(image, ["whisper", "nemo"], lambda family: None)
    read_only = Settings(data_dir=tmp_path / "data", envs_dir=tmp_path / "baked", device="cpu")
    monkeypatch.setattr("os.access", lambda place, mode: Path(place) != tmp_path / "baked")
    environments.build(read_only, ["whisper", "nemo"], lambda family: None)
    assert built == [tmp_path / "baked" / "nemo", tmp_path / "data" / "envs" / "nemo"]
    _pretend(image, tmp_path / "data" / "envs", "nemo")
    assert environments.is_built(read_only, "nemo")
    assert environments.folder(read_only, "nemo") == tmp_path / "data" / "envs" / "nemo"
    assert environments.folder(read_only, "whisper") == tmp_path / "baked" / "whisper"
