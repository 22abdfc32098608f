"""Where a request's audio comes from: its own bytes, or a file under one of the folders that may be read."""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from talkies_kit.beneath import open_beneath
from talkies_kit.engine import is_want
from talkies_kit.wire import InvalidInput


def roots(value: str) -> list[Path]:
    """The folders in a list joined by `os.pathsep`."""
    return [Path(os.path.realpath(root)) for root in value.split(os.pathsep) if root]


def check_key(given: str, expected: str) -> None:
    """Raises InvalidInput unless the key is that of the facade; any is, where none is expected."""
    if expected and not hmac.compare_digest(given.encode(), expected.encode()):
        raise InvalidInput("only talkies itself may name a path; send the file in AUDIO", "file")


def open_file(path: str, allowed: Sequence[Path]) -> IO[bytes]:
    """The file at `path`. Raises InvalidInput when it is none, or its real place is outside `allowed`."""
    real = Path(os.path.realpath(path)) if path and "\0" not in path else None
    root = next((root for root in allowed if real and real.is_relative_to(root) and real != root), None)
    if real is None or root is None:
        raise InvalidInput("the path lies outside the folders that this server reads audio from", "file")
    try:
        descriptor = open_beneath(root, real)
    except OSError as error:
        if is_want(error):
            raise
        raise InvalidInput(f"the file cannot be opened ({error.strerror})", "file") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidInput("the path is not a file", "file")
    return os.fdopen(descriptor, "rb")
