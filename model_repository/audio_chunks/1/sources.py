"""Where a request's audio comes from: its own bytes, or a file under one of the folders that may be read."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from talkies_kit.wire import InvalidInput


def roots(value: str) -> list[Path]:
    """The folders in a list joined by `os.pathsep`."""
    return [Path(os.path.realpath(root)) for root in value.split(os.pathsep) if root]


def open_file(path: str, allowed: Sequence[Path]) -> IO[bytes]:
    """The file at `path`. Raises InvalidInput when it is none, or its real place is outside `allowed`."""
    real = Path(os.path.realpath(path)) if path and "\0" not in path else None
    if real is None or not any(real.is_relative_to(root) for root in allowed):
        raise InvalidInput("the path lies outside the folders that this server reads audio from", "file")
    try:
        # Not following a link that has been put there since; not waiting for the writer of a pipe.
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInput(f"the file cannot be opened ({error.strerror})", "file") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidInput("the path is not a file", "file")
    return os.fdopen(descriptor, "rb")
