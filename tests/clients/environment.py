"""Environments of the clients and tools that tests run: they never have to agree with talkies on a package."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uv
from filelock import FileLock

HERE = Path(__file__).parent
_BUILD_TIMEOUT = 900


def python(envs: Path, client: str, *versions: str) -> Path:
    """The interpreter of a client's environment in `envs`, built when missing or when its requirements changed.

    Made with the first of `versions` ("3.12") that is installed, or this Python; the test is skipped without one, or
    when a package cannot be installed.
    """
    base = _interpreter(versions) if versions else sys.executable
    requirements = HERE / f"{client}.txt"

    def build(folder: Path) -> None:
        _run(uv.find_uv_bin(), "venv", "--quiet", "--python", base, str(folder))
        target = ("--quiet", "--python", str(folder / "bin" / "python"), "--no-deps", "-r", str(requirements))
        _run(uv.find_uv_bin(), "pip", "install", *target)

    return _built(envs / f"client-{client}", requirements.read_bytes() + base.encode(), build) / "bin" / "python"


def npm(envs: Path, client: str, script: str) -> tuple[Path, Path]:
    """Node and the script of npm/ beside the packages of npm/`client`, built and skipped as `python` does."""
    node = python(envs, "node").with_name("node")
    source = HERE / "npm"
    files = [source / client / "package.json", source / client / "package-lock.json", source / script]

    def build(folder: Path) -> None:
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
        _run(str(node.with_name("npm")), "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)

    wanted = b"".join(file.read_bytes() for file in files)
    return node, _built(envs / f"client-{client}", wanted, build) / script


def _built(folder: Path, wanted: bytes, build: Callable[[Path], None]) -> Path:
    """The folder, anew unless it was built of the same."""
    stamp, digest = folder / ".built-of", hashlib.sha256(wanted).hexdigest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not (stamp.is_file() and stamp.read_text() == digest):
            shutil.rmtree(folder, ignore_errors=True)
            try:
                build(folder)
            except subprocess.CalledProcessError as failed:
                pytest.skip(f"{folder.name} cannot be installed: {failed.stderr.strip()[-500:]}")
            stamp.write_text(digest)
    return folder


def _interpreter(versions: tuple[str, ...]) -> str:
    for version in versions:
        # pyenv's shims run only the version that is chosen.
        variables = {**os.environ, "PYENV_VERSION": version}
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            return _run(f"python{version}", "-c", "import sys; print(sys.executable)", env=variables).strip()
    pytest.skip(f"no Python {', '.join(versions)} is installed")


def _run(*command: str, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_TIMEOUT, check=True, **options)
    return done.stdout
