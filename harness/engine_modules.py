"""Loads the pure modules of the ASR families, which are in no package that could be imported."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1] / "model_repository"


def load(family: str, name: str) -> types.ModuleType:
    """A module beside the family's model.py, in a package as Triton makes one."""
    package = sys.modules.setdefault(f"{family}_model", types.ModuleType(f"{family}_model"))
    package.__path__ = [str(_REPOSITORY / family / "1")]
    return importlib.import_module(f"{family}_model.{name}")
