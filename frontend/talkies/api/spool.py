"""Answers that are made as a whole before they are sent, in memory while they are small and on the disk beyond."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import IO

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

_IN_MEMORY = 4 << 20
"""Bytes; most speech is smaller."""
_BLOCK = 256 << 10


def spool(folder: Path) -> IO[bytes]:
    """A file without a name, on the disk in `folder` when it has grown."""
    return tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+b", dir=str(folder))


class SpooledResponse(StreamingResponse):
    """Sends a spooled file, which is closed then."""

    def __init__(self, file: IO[bytes], media_type: str, headers: Mapping[str, str]) -> None:
        size = file.seek(0, 2)
        file.seek(0)
        self._file = file
        super().__init__(_blocks(file), media_type=media_type, headers={**headers, "content-length": str(size)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


async def _blocks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while block := await asyncio.to_thread(file.read, _BLOCK):
        yield block
