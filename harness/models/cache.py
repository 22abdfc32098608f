"""Generated models, made once: by a script beside this file, in the environment of the engine that they are for."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1] / "model_repository"


def python(home: Path, environment: str) -> Path:
    """The environment's interpreter in the data directory `home`. Raises AssertionError when it is not built."""
    path = home / "envs" / environment / "bin" / "python"
    assert path.is_file(), f"build the environment first: talkies env build {environment}"
    return path


def run(home: Path, environment: str, script: str, arguments: Sequence[Path]) -> str:
    """What the script prints. Raises AssertionError with the end of its errors."""
    command = [python(home, environment), HERE / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert not done.returncode, f"{script} failed:\n{done.stderr[-3000:]}"
    return done.stdout


def made(home: Path, environment: str, script: str, inputs: Sequence[Path]) -> Path:
    """The folder that `script FOLDER INPUT…` has filled, now or in an earlier run with the same scripts and inputs."""
    digest = hashlib.sha256()
    for path in [*sorted(HERE.glob("*.py")), REPOSITORY / environment / "requirements.txt", *inputs]:
        digest.update(path.read_bytes())
    folder = home / "test-models" / f"{script.removesuffix('.py')}-{digest.hexdigest()[:12]}"
    if not folder.is_dir():
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        run(home, environment, script, [new, *inputs])
        new.rename(folder)
    return folder
