"""Reference clips, which voices are cloned from: NAME.wav, beside it NAME.txt (what is said in it) and NAME.lang.

The facade lists them and an engine reads them, out of the same folders and by these rules.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Clip:
    """The files of one clip, all inside its folder and none of them a link any more."""

    wav: Path
    text: Path | None
    language: Path | None


def scan(folder: Path) -> dict[str, Clip]:
    """The folder's clips by name: the path from the folder, without `.wav`. None when there is no such folder.

    Left out are hidden files, names that cannot be printed, links to folders, and links that leave the folder: nobody
    can have a file read by naming it as a voice.
    """
    root = folder.resolve()
    found = {}
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            path = Path(place, file)
            name = path.relative_to(root).as_posix().removesuffix(".wav")
            if file.startswith(".") or not file.endswith(".wav") or not name.isprintable():
                continue
            if wav := _inside(root, path):
                found[name] = Clip(
                    wav, _inside(root, path.with_suffix(".txt")), _inside(root, path.with_suffix(".lang"))
                )
    return found


def _inside(root: Path, path: Path) -> Path | None:
    """The file that `path` leads to, None when there is none or it is not under `root`."""
    try:
        real = Path(os.path.realpath(path, strict=True))
    except OSError:  # dangling, or links in a circle
        return None
    return real if real.is_relative_to(root) and real.is_file() else None
