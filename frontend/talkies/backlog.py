"""Making things ahead of somebody slower, within a bound."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing


async def read_ahead(pieces: AsyncGenerator[bytes], limit: int) -> AsyncGenerator[bytes]:
    """`pieces`, made by a task of its own that pauses while `limit` bytes or more wait for the caller.

    What `pieces` raises comes after all that it yielded. Closing this generator ends the task and closes `pieces`.
    """
    waiting: deque[bytes] = deque()
    size = 0
    more, room = asyncio.Event(), asyncio.Event()

    async def make() -> None:
        nonlocal size
        async with aclosing(pieces):
            async for piece in pieces:
                waiting.append(piece)
                size += len(piece)
                more.set()
                while size >= limit:
                    room.clear()
                    await room.wait()

    maker = asyncio.create_task(make())
    maker.add_done_callback(lambda _: more.set())
    try:
        while True:
            await more.wait()
            more.clear()
            while waiting:
                piece = waiting.popleft()
                size -= len(piece)
                room.set()
                yield piece
            if maker.done():
                maker.result()
                return
    finally:
        maker.cancel()
        await asyncio.gather(maker, return_exceptions=True)
