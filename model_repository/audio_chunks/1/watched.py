"""A file as a decoder reads it: its reading ends with its client, and its header has a deadline."""

from __future__ import annotations

import threading
import time
from typing import IO

from talkies_kit.wire import InvalidInput

HEADER_SECONDS = 10.0
"""Of computing, for what comes before the first sound; a tag of a hundred thousand frames takes minutes."""


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


class Watched:
    """What a decoder needs of `file`. Reading raises Cancelled, or InvalidInput when the header takes too long.

    A decoder swallows what a file raises, or takes it for the file's end: so ask `check` when it comes back. One thread
    reads it, the one that made it; `cancel` and `computed` may be called by another.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._started = self.computed()
        self._in_header = True
        self._is_cancelled = False
        self._failure: Exception | None = None

    def computed(self) -> float:
        """Seconds that the reading thread has computed in its life."""
        return time.clock_gettime(self._clock)

    def cancel(self) -> None:
        """The next reading raises Cancelled."""
        self._is_cancelled = True

    def header_is_read(self) -> None:
        """From here on it is sound, however much."""
        self._in_header = False

    def late(self, grace: float = 0.0) -> InvalidInput | None:
        """What is wrong with a header that takes more than `grace` seconds too long."""
        if not self._in_header or self.computed() - self._started <= HEADER_SECONDS + grace:
            return None
        return InvalidInput(f"the file's header takes longer than {HEADER_SECONDS:g} seconds to read", "file")

    def check(self) -> None:
        """Raises what ended the reading, or ends it."""
        self._failure = self._failure or self.late() or (Cancelled() if self._is_cancelled else None)
        if self._failure:
            raise self._failure

    def read(self, size: int = -1) -> bytes:
        self.check()
        try:
            return self._file.read(size)
        except OSError as error:  # a disk that fails is not the end of the file
            self._failure = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def size(self) -> int:
        """Bytes of the whole file."""
        at = self._file.tell()
        try:
            return self._file.seek(0, 2)
        finally:
            self._file.seek(at)
