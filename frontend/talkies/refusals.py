"""What the operating system refuses: as the answer to a request, and as the one sentence of a command."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from talkies.errors import OutOfSpace, StartupError, TalkiesError, Unavailable

log = structlog.get_logger("talkies.refusals")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SCARCE = frozenset({errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOBUFS, errno.EIO})
"""Memory, descriptors, processes: there may be some again in a moment."""


def answer_to(error: BaseException) -> TalkiesError | None:
    """The error as an answer, None where it is not the machine that has too little of something."""
    if isinstance(error, MemoryError):
        return Unavailable("The server has no memory left for this; try again in a moment.")
    if not isinstance(error, OSError):
        return None
    if error.errno in _FULL:
        return OutOfSpace("The server's disk is full; free some space there, for instance by deleting staged files.")
    if error.errno in _SCARCE:
        return Unavailable(f"The server lacks what this takes ({os.strerror(error.errno)}); try again in a moment.")
    return None


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Whatever is written in `folder` meanwhile. Raises OutOfSpace and Unavailable for what the machine lacks, and says
    in the log where."""
    try:
        yield
    except (OSError, MemoryError) as error:
        refused = answer_to(error)
        if refused is None:
            raise
        log.error(
            "cannot write", folder=str(folder), reason=str(error.strerror if isinstance(error, OSError) else error)
        )
        raise refused from None


def sentence(error: OSError) -> StartupError:
    """Why a command cannot go on. A path that is unknown is the data directory's."""
    reason = error.strerror or type(error).__name__
    way_out = "free some space there" if error.errno in _FULL else "check it and who may write there"
    return StartupError(
        f"{error.filename or 'The data directory'}: {reason}; {way_out}, or set TALKIES_DATA_DIR to another folder."
    )
