"""A background task that ends by itself takes talkies with it."""

from __future__ import annotations

import asyncio
import signal

import pytest
import structlog
from talkies.tasks import must_run


async def test_it_says_why_and_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)

    async def work() -> None:
        raise OSError("the disk is full")

    with structlog.testing.capture_logs() as lines:
        task = must_run(asyncio.create_task(work(), name="watch"))
        await asyncio.wait((task,))
        await asyncio.sleep(0)
    assert raised == [signal.SIGTERM]
    assert (lines[0]["task"], lines[0]["log_level"]) == ("watch", "critical")
    assert "the disk is full" in lines[0]["error"]


async def test_one_that_is_cancelled_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "raise_signal", lambda _: pytest.fail("nothing has gone wrong"))
    task = must_run(asyncio.create_task(asyncio.sleep(60), name="watch"))
    task.cancel()
    await asyncio.wait((task,))
    await asyncio.sleep(0)
