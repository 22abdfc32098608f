"""How long staged and fetched files stay, and how much room they may take together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from talkies.errors import BadRequest, NotFound
from talkies.files.staging import Staging

log = structlog.get_logger("talkies.retention")


@dataclass(frozen=True, slots=True)
class _Kept:
    last_used: float
    size: int
    path: str
    real: Path


class Retention:
    """Of the files in the staging area. The least recently used goes, never one that a request uses."""

    def __init__(self, staging: Staging, *, ttl: float, max_bytes: int, interval: float) -> None:
        """Files go when nobody has used them for `ttl` seconds, and while all take more than `max_bytes`; 0 is no
        limit. They are looked at every `interval` seconds and whenever one has come."""
        self._staging = staging
        self._ttl = ttl
        self._max_bytes = max_bytes
        self._interval = interval
        self._held: Counter[Path] = Counter()
        self._holding = threading.Lock()

    @contextmanager
    def hold(self, path: Path) -> Iterator[None]:
        """Keep a file, by its real path, as long as the context lasts."""
        with self._holding:
            self._held[path] += 1
        try:
            yield
        finally:
            with self._holding:
                self._held[path] -= 1
                if not self._held[path]:
                    del self._held[path]
            with contextlib.suppress(OSError):
                use(path)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._staging.changed.clear()
            try:
                await asyncio.to_thread(self.sweep)
            except OSError as error:
                log.error("staged files cannot be looked at", reason=error.strerror)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._staging.changed.wait()

    def sweep(self) -> None:
        """Delete what has stayed too long or takes too much room."""
        kept = sorted(self._kept(), key=lambda file: file.last_used)
        total = sum(file.size for file in kept)
        now = time.time()
        for file in kept:
            old = self._ttl and now - file.last_used > self._ttl
            much = self._max_bytes and total > self._max_bytes
            if (old or much) and self._delete(file):
                total -= file.size
                log.info("staged file expired", path=file.path, reason="age" if old else "size")

    def _kept(self) -> Iterator[_Kept]:
        for staged in self._staging.list():
            try:
                real = self._staging.find(staged.path)
                status = real.stat()
            except (BadRequest, NotFound, OSError):  # gone meanwhile
                continue
            yield _Kept(max(status.st_atime, status.st_mtime), status.st_size, staged.path, real)

    def _delete(self, file: _Kept) -> bool:
        with self._holding:
            try:
                status = file.real.stat()
                if file.real in self._held or max(status.st_atime, status.st_mtime) > file.last_used:
                    return False  # in use, or used since
                self._staging.delete(file.path)
            except (BadRequest, NotFound, OSError):
                return False
        return True


def use(file: Path | int) -> None:
    """Note that a file, by its path or a descriptor, is used. Raises OSError."""
    status = os.stat(file)  # noqa: PTH116 - a descriptor has no path
    os.utime(file, ns=(time.time_ns(), status.st_mtime_ns))
