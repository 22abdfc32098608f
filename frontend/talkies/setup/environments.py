"""Engine environments: a virtual environment per engine or group of engines, built by uv from pinned requirements.

An engine that can use an NVIDIA GPU has two locks: `requirements.txt` for the CPU, `requirements-cuda.txt` for the GPU.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import uv
from filelock import FileLock

from talkies.errors import StartupError
from talkies.families import MODEL_REPOSITORY, folder_of
from talkies.settings import Settings
from talkies.setup import package_index

KIT = MODEL_REPOSITORY / "kit"
TRITONSERVER = "tritonserver"
"""The family that is no engine: the server itself, from the wheel nvidia-pytriton."""

_BUILD_PINS = KIT / "requirements-build.txt"
_BUILD_TIMEOUT = 3600


def folder(settings: Settings, family: str) -> Path:
    """Where the family's environment is, or will be built: in TALKIES_ENVS_DIR, or, if that holds another and can only
    be read, as in an image, in the data directory."""
    places = [root / family for root in settings.all_envs]
    built = [place for place in places if _is_built(settings, family, place)]
    return next(iter([*built, *(place for place in places if _is_writable(place.parent))]), places[-1])


def python(settings: Settings, family: str) -> Path:
    """The interpreter of the family's environment, whether or not it is built."""
    return folder(settings, family) / "bin" / "python"


def device(settings: Settings, family: str) -> str:
    """Where the family's engines run, "cpu" or "cuda:N": a GPU that is only there, not asked for, is for those whose
    environment can use it."""
    if settings.device == "auto" and not _cuda_requirements(settings, family).is_file():
        return "cpu"
    return settings.resolved_device


def is_built(settings: Settings, family: str) -> bool:
    """Whether the family's environment is there and up to date with its requirements, the device and the kit."""
    return any(_is_built(settings, family, root / family) for root in settings.all_envs)


def _is_built(settings: Settings, family: str, place: Path) -> bool:
    stamp = place / ".talkies"
    return stamp.is_file() and stamp.read_text() == _fingerprint(_requirements(settings, family), place)


def _is_writable(place: Path) -> bool:
    while not place.exists():
        place = place.parent
    return os.access(place, os.W_OK)


def build(settings: Settings, families: Iterable[str], announce: Callable[[str], None]) -> None:
    """Build what is missing or out of date, one family after the other; `announce` is told of each.

    Raises StartupError with the tail of uv's own words.
    """
    for family in families:
        if is_built(settings, family):
            continue  # without the lock: where it is there it may be that nobody can write
        place = folder(settings, family)
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.parent / ".lock"):
            if not is_built(settings, family):
                announce(family)
                _build(settings, family, place)


def _build(settings: Settings, family: str, place: Path) -> None:
    """Made in place (a virtual environment cannot be moved); the stamp, written last, says that it is whole."""
    shutil.rmtree(place, ignore_errors=True)
    _uv("venv", "--quiet", "--python", sys.executable, str(place))
    target = ["--python", str(place / "bin" / "python")]
    requirements = _requirements(settings, family)
    _uv("pip", "install", *target, "--no-deps", "--require-hashes", "-r", str(requirements), *_torch(requirements))
    if family != TRITONSERVER:
        _link_libpython(place)
        _link_cuda(place, requirements)
        with tempfile.TemporaryDirectory() as scratch:
            # Copied first: a build leaves files beside its sources, and the sources may be read-only.
            kit = shutil.copytree(KIT, Path(scratch) / "kit", ignore=shutil.ignore_patterns("__pycache__"))
            _uv("pip", "install", *target, "--no-deps", "--build-constraints", str(_BUILD_PINS), str(kit))
    (place / ".talkies").write_text(_fingerprint(requirements, place))


def _link_libpython(place: Path) -> None:
    """Put libpython where Triton's stub looks for it first; without it a load hangs for ever on 2.51."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    library = Path(sysconfig.get_config_var("LIBDIR") or "") / name
    if library.is_file():
        (place / "lib" / name).symlink_to(library)
        return
    try:
        ctypes.CDLL(name)
    except OSError:
        raise StartupError(
            f"{sys.executable} comes without {name}, which tritonserver needs; install it "
            f"(Debian: libpython{sys.version_info.major}.{sys.version_info.minor}) or use a Python built with it."
        ) from None


def _link_cuda(folder: Path, requirements: Path) -> None:
    """Put NVIDIA's libraries where Triton's stub looks for libraries: CTranslate2 opens them by name.

    PyTorch finds its own beside itself, and must not be given others first.
    """
    if any(line.startswith("torch==") for line in requirements.read_text().splitlines()):
        return
    for library in folder.glob("lib/python3*/site-packages/nvidia/*/lib/*.so.*"):
        (folder / "lib" / library.name).symlink_to(library.relative_to(folder / "lib"))


def _requirements(settings: Settings, family: str) -> Path:
    cuda = _cuda_requirements(settings, family)
    if cuda.is_file() and device(settings, family) != "cpu":
        return cuda
    path = cuda.with_name("requirements.txt")
    if not path.is_file():
        raise StartupError(f"There is no {path}, which would say what the environment {family} holds.")
    return path


def _cuda_requirements(settings: Settings, family: str) -> Path:
    return folder_of(family, settings.engines_dir) / "requirements-cuda.txt"


def _torch(requirements: Path) -> list[str]:
    """Options that let uv find PyTorch's CPU build, which is not on the package index: in a folder where pip or uv is
    set up to look, else on the index of PyTorch's makers, which uv knows."""
    pins = [line.split()[0] for line in requirements.read_text().splitlines() if line.startswith("torch==")]
    if not pins or not pins[0].endswith("+cpu"):
        return []
    wheel = pins[0].replace("==", "-")
    for folder in package_index.find_links():
        if any(folder.glob(f"{wheel}-*.whl")):
            return ["--find-links", str(folder)]
    return ["--torch-backend", "cpu"]


def _fingerprint(requirements: Path, place: Path) -> str:
    """What an environment is made of: the interpreter, the requirements, the kit, and where it was made: its scripts
    name that place, so that one that was moved does not work, and one that was copied works in the other's."""
    digest = hashlib.sha256(f"{sys.version}\0{place.resolve()}".encode())
    sources = [] if requirements.parent.name == TRITONSERVER else [*sorted(KIT.rglob("*.py")), KIT / "pyproject.toml"]
    for path in [requirements, *sources]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _uv(*args: str) -> None:
    command = [uv.find_uv_bin(), *args]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise StartupError(f"uv {args[0]} did not finish within {_BUILD_TIMEOUT} s.") from None
    if done.returncode:
        raise StartupError(f"uv {' '.join(args[:2])} failed: {done.stderr.strip()[-1500:]}")
