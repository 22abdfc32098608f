"""Reading ahead: order, the bound, failures after what came before them, nothing left running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from talkies.api.read_ahead import ReadAhead


class Maker:
    """Ten pieces of 10 bytes, then `failure` if there is one."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.made = 0
        self.closed = False
        self._failure = failure

    async def pieces(self) -> AsyncGenerator[bytes]:
        try:
            for number in range(10):
                self.made += 1
                yield bytes([number]) * 10
                await asyncio.sleep(0)
            if self._failure:
                raise self._failure
        finally:
            self.closed = True


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def rest(ahead: ReadAhead) -> AsyncGenerator[bytes]:
    while (piece := await ahead.next()) is not None:
        yield piece


@pytest.mark.parametrize("limit", [1, 25, 1000])
async def test_every_piece_in_order(limit: int) -> None:
    maker = Maker()
    async with ReadAhead(maker.pieces(), limit) as ahead:
        assert [piece[0] async for piece in rest(ahead)] == list(range(10))
    assert maker.closed


async def test_no_more_than_the_limit_is_made_ahead() -> None:
    maker = Maker()
    async with ReadAhead(maker.pieces(), 30) as ahead:
        await ahead.next()
        await settle()
        assert maker.made == 4  # one is taken, three wait
        await ahead.next()
        await settle()
        assert maker.made == 5
    assert maker.closed


async def test_the_work_ends_before_the_reader_does() -> None:
    maker = Maker()
    async with ReadAhead(maker.pieces(), 1000) as ahead:
        await ahead.next()
        await settle()
        assert maker.closed
        assert len([piece async for piece in rest(ahead)]) == 9


async def test_a_failure_comes_after_what_was_made() -> None:
    maker, seen = Maker(RuntimeError("died")), []
    async with ReadAhead(maker.pieces(), 1000) as ahead:
        with pytest.raises(RuntimeError, match="died"):
            async for piece in rest(ahead):
                await settle()
                seen.append(piece[0])
    assert seen == list(range(10))


async def test_a_wait_that_is_given_up_loses_nothing() -> None:
    go = asyncio.Event()

    async def pieces() -> AsyncGenerator[bytes]:
        yield b"first"
        await go.wait()
        yield b"second"

    async with ReadAhead(pieces(), 10) as ahead:
        assert await ahead.next() == b"first"
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ahead.next(), 0.001)
        go.set()
        assert [await ahead.next(), await ahead.next(), await ahead.next()] == [b"second", None, None]


async def test_a_reader_that_leaves_ends_the_work() -> None:
    maker = Maker()
    async with ReadAhead(maker.pieces(), 10) as ahead:
        await ahead.next()
    assert maker.closed
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
