"""Tasks in the background, none of which may end without a word."""

from __future__ import annotations

import asyncio
import signal
import traceback

import structlog

log = structlog.get_logger("talkies.tasks")


def must_run(task: asyncio.Task[None]) -> asyncio.Task[None]:
    """The same task. When it ends by itself, talkies logs why and ends like on SIGTERM: something must restart it."""
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[None]) -> None:
    if task.cancelled():
        return
    error = task.exception()
    at = traceback.format_tb(error.__traceback__) if error else None
    log.critical("a background task has ended; talkies ends too", task=task.get_name(), error=repr(error), at=at)
    signal.raise_signal(signal.SIGTERM)
