"""Environments of the clients and tools that tests run: they never have to agree with talkies on a package."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import uv
from filelock import FileLock

HERE = Path(__file__).parent
_BUILD_TIMEOUT = 900


def python(envs: Path, client: str, *versions: str) -> Path:
    """The interpreter of a client's environment in `envs`, built when missing or when its requirements changed.

    Made with the first of `versions` ("3.12") that is installed, or this Python; the test is skipped without one.
    """
    base = _interpreter(versions) if versions else sys.executable
    requirements = HERE / f"{client}.txt"
    folder = envs / f"client-{client}"
    stamp = folder / ".requirements"
    wanted = hashlib.sha256(requirements.read_bytes() + base.encode()).hexdigest()
    found = folder / "bin" / "python"
    envs.mkdir(parents=True, exist_ok=True)
    with FileLock(envs / f".client-{client}.lock"):
        if not (stamp.is_file() and stamp.read_text() == wanted):
            shutil.rmtree(folder, ignore_errors=True)
            _run(uv.find_uv_bin(), "venv", "--quiet", "--python", base, str(folder))
            target = ("--quiet", "--python", str(found), "--require-hashes", "-r", str(requirements))
            _run(uv.find_uv_bin(), "pip", "install", *target)
            stamp.write_text(wanted)
    return found


def _interpreter(versions: tuple[str, ...]) -> str:
    for version in versions:
        # pyenv's shims run only the version that is chosen.
        variables = {**os.environ, "PYENV_VERSION": version}
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            return _run(f"python{version}", "-c", "import sys; print(sys.executable)", env=variables).strip()
    pytest.skip(f"no Python {', '.join(versions)} is installed")


def _run(*command: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_TIMEOUT, check=True, env=env)
    return done.stdout
