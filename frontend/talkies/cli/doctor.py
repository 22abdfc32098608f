"""`talkies doctor`: whether all is there and whole that `serve` needs, a line for each thing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence

from talkies.registry import Model, Registry
from talkies.settings import Settings
from talkies.setup import environments, weights

_LITTLE = 1 << 30
"""Bytes of free disk that are too few for uploads and downloads."""

Finding = tuple[str, str]
"""What was looked at, and what is wrong with the way out; empty when it is well."""


def findings(
    settings: Settings, registry: Registry, slugs: Sequence[str], families: Sequence[str]
) -> Iterator[Finding]:
    """Look at everything; reads all the weights."""
    yield f"data directory {settings.data_dir}", _disk(settings)
    for family in families:
        built = environments.is_built(settings, family)
        yield f"environment {family}", "" if built else f"not built: `talkies env build {family}`"
    for slug in slugs:
        yield f"weights of {slug}", _weights(settings, registry.find(slug))


def _disk(settings: Settings) -> str:
    place = settings.data_dir
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return "cannot be written: check who may, or set TALKIES_DATA_DIR to another folder"
    free = shutil.disk_usage(place).free
    return "" if free > _LITTLE else f"has {free >> 20} MiB left: free some space"


def _weights(settings: Settings, model: Model) -> str:
    if missing := weights.missing(settings, model):
        return f"missing ({', '.join(missing[:3])}): `talkies pull {model.slug}`"
    try:
        damaged = weights.damaged(settings, model, all_files=True)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return f"damaged ({', '.join(damaged[:3])}): `talkies pull --verify {model.slug}`" if damaged else ""
