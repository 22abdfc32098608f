"""Who looks after the reading of a file from outside.

FFmpeg asks nobody while it sorts what it has read: a comment block of 16 MB is one read and an hour of computing. Only
the end of the process ends that; the facade then has another one started.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from talkies_kit.wire import InvalidInput

from .watched import Watched

LOOK = 0.5
"""Seconds between two looks for the client: each is a call to tritonserver."""
GRACE = 2.0
"""Seconds of computing for a reading that is to end, before it is ended by force."""


class Overseer:
    """A thread for the time of `with`: cancels `file` when its client is gone, gives it up when it does not come back.

    `give_up` gets what is wrong with the file, None when nobody waits for it; it should not return.
    """

    def __init__(
        self, file: Watched, is_cancelled: Callable[[], bool], give_up: Callable[[InvalidInput | None], None]
    ) -> None:
        self._file, self._is_cancelled, self._give_up = file, is_cancelled, give_up
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="overseer", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        end: float | None = None
        while not self._done.wait(LOOK):
            if end is None and self._is_cancelled():
                self._file.cancel()
                end = self._file.computed() + GRACE
            is_unwanted = end is not None and self._file.computed() > end
            late = self._file.late(GRACE)
            if (is_unwanted or late) and not self._done.is_set():
                self._give_up(None if is_unwanted else late)
                return
