"""Opening a file below a folder, whatever becomes of the folders between meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_beneath(root: Path, path: Path) -> int:
    """A descriptor of the file at `path`, to read; neither waits for the writer of a pipe.

    Both are real paths, the second below the first. No link is followed on the way: one that somebody has put there
    since the path was looked at raises OSError, as a file that is gone does.
    """
    *folders, name = path.relative_to(root).parts
    folder = os.open(root, _FOLDER)
    try:
        for part in folders:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(name, _FILE, dir_fd=folder)
    finally:
        os.close(folder)
