"""Making things ahead of somebody slower, within a bound."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Self


class ReadAhead:
    """`pieces`, made by a task that pauses while `limit` bytes or more wait; leaving the context ends it."""

    def __init__(self, pieces: AsyncGenerator[bytes], limit: int) -> None:
        self._pieces = pieces
        self._limit = limit
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._more, self._room = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> Self:
        self._maker = asyncio.create_task(self._make())
        self._maker.add_done_callback(lambda _: self._more.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._maker.cancel()
        await asyncio.gather(self._maker, return_exceptions=True)

    async def next(self) -> bytes | None:
        """The next piece, None after the last; what `pieces` raises comes after all that it yielded.

        Nothing is lost when waiting for it is given up.
        """
        while not self._waiting and not self._maker.done():
            self._more.clear()
            await self._more.wait()
        if not self._waiting:
            self._maker.result()
            return None
        piece = self._waiting.popleft()
        self._size -= len(piece)
        self._room.set()
        return piece

    async def _make(self) -> None:
        async with aclosing(self._pieces):
            async for piece in self._pieces:
                self._waiting.append(piece)
                self._size += len(piece)
                self._more.set()
                while self._size >= self._limit:
                    self._room.clear()
                    await self._room.wait()
