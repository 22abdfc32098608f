"""scripts/_setup.sh in a clone that is moved or copied: its programs name the place where they were installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from talkies.settings import PROJECT

PACKAGE = """\
[project]
name = "{name}"
version = "1"
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[tool.hatch.build.targets.wheel]
packages = ["{module}"]
"""
WHERE = """\
#!/usr/bin/env bash
source "$(dirname "$0")/_setup.sh" requirements.txt
.venv/bin/python -c 'import sys, talkies; print(sys.prefix, talkies.__file__)'
.venv/bin/uv --version >&2
"""


def package(folder: Path, name: str) -> None:
    module = name.replace("-", "_")
    (folder / module).mkdir(parents=True)
    (folder / module / "__init__.py").touch()
    (folder / "pyproject.toml").write_text(PACKAGE.format(name=name, module=module))


def clone(folder: Path) -> Path:
    """What the script needs of this repository, with packages that hold nothing and need nothing."""
    package(folder, "talkies")
    package(folder / "model_repository" / "kit", "talkies-kit")
    (folder / "scripts").mkdir()
    shutil.copy(PROJECT / "scripts" / "_setup.sh", folder / "scripts")
    (folder / "scripts" / "where").write_text(WHERE)
    shutil.copy(PROJECT / "requirements-uv.txt", folder)
    for name in ("requirements.txt", "requirements-dev.txt"):
        (folder / name).touch()
    shutil.copy(PROJECT / "model_repository" / "kit" / "requirements-build.txt", folder / "model_repository" / "kit")
    return folder


def assert_runs_its_own(folder: Path, *, anew: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        ["/bin/bash", folder / "scripts" / "where"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(folder / ".venv"), str(folder / "talkies" / "__init__.py")], done.stderr
    assert ("creating .venv" in done.stderr) == anew


def test_a_copied_and_a_moved_clone_run_their_own_code(tmp_path: Path) -> None:
    first = clone(tmp_path / "first")
    assert_runs_its_own(first, anew=True)
    assert_runs_its_own(first, anew=False)
    copied = Path(shutil.copytree(first, tmp_path / "copied", symlinks=True))
    assert_runs_its_own(copied, anew=True)
    moved = first.rename(tmp_path / "moved")
    assert_runs_its_own(moved, anew=True)
    assert_runs_its_own(copied, anew=False)
