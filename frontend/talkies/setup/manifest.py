"""What a download holds: each file's size and hash, and the state in which it was last seen to be whole.

<download>/manifest.json    written last: name -> size and sha256
<download>/checked.json     name -> size, time and inode of the file when its hash was last right
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

_MANIFEST, _CHECKED = "manifest.json", "checked.json"


class Entry(TypedDict):
    """One file."""

    size: int
    """In bytes."""
    sha256: str


_ENTRIES = TypeAdapter(dict[str, Entry])
_STATES = TypeAdapter(dict[str, list[int]])


def read(place: Path) -> Mapping[str, Entry] | None:
    """The files of a download; None where there is none, as in a folder that a person filled."""
    try:
        return _ENTRIES.validate_json((place / _MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def write(place: Path) -> None:
    """Note every file of a download that has just been made. Raises OSError."""
    files = sorted(path for path in place.rglob("*") if path.is_file() and path.name not in (_MANIFEST, _CHECKED))
    entries = {
        path.relative_to(place).as_posix(): Entry(size=path.stat().st_size, sha256=sha256(path)) for path in files
    }
    _write(place / _CHECKED, {name: _state(place / name) for name in entries})
    _write(place / _MANIFEST, entries)


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def damaged(place: Path, *, all_files: bool = False) -> list[str]:
    """The files that are gone or whose content is not what was fetched. Only those are read that were changed since
    they were whole, unless `all_files`. Raises OSError."""
    entries = read(place) or {}
    try:
        checked = _STATES.validate_json((place / _CHECKED).read_bytes())
    except (OSError, ValidationError):
        checked = {}
    states = {name: _state(place / name) for name in entries if (place / name).is_file()}
    found = [name for name in entries if name not in states]
    unsure = [name for name, state in states.items() if all_files or checked.get(name) != state]
    found += [name for name in unsure if sha256(place / name) != entries[name]["sha256"]]
    if unsure:
        with contextlib.suppress(OSError):  # a folder that is only to be read: they are read again the next time
            _write(place / _CHECKED, {name: state for name, state in states.items() if name not in found})
    return found


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _write(path: Path, content: Any) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(content, indent=1))
    part.replace(path)
