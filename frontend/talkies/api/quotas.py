"""How much each token has had: requests in the last minute, seconds of audio today."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict, deque
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from talkies.errors import QuotaExceeded, RateLimited
from talkies.tokens import Token

log = structlog.get_logger("talkies.quotas")

_MINUTE = 60.0
_PAUSE = 5.0
"""Seconds between two looks whether what was used has to be written."""


class Quotas:
    """The usage of all tokens by their names; that of the day survives a restart in the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._requests: defaultdict[str, deque[float]] = defaultdict(deque)
        self._day, self._seconds = _today(), dict[str, float]()
        self._changed = False
        try:
            kept: Any = json.loads(path.read_bytes())
            if kept["day"] == self._day:
                self._seconds = {str(name): float(seconds) for name, seconds in kept["seconds"].items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("what tokens have used today is lost", reason=str(error))

    def admit(self, token: Token) -> None:
        """Count a request, which is finished then, even beyond the quota. Raises RateLimited, QuotaExceeded."""
        self._turn_the_day()
        quota = token.audio_seconds_per_day
        if quota is not None and self._seconds.get(token.name, 0.0) >= quota:
            raise QuotaExceeded(token.name, quota, _until_tomorrow())
        if token.requests_per_minute is None:
            return
        now, recent = time.monotonic(), self._requests[token.name]
        while recent and recent[0] <= now - _MINUTE:
            recent.popleft()
        if len(recent) >= token.requests_per_minute:
            raise RateLimited(token.name, token.requests_per_minute, recent[0] + _MINUTE - now)
        recent.append(now)

    def spend(self, token: Token, seconds: float) -> None:
        """Count audio, transcribed or spoken."""
        if seconds and token.audio_seconds_per_day is not None:
            self._turn_the_day()
            self._seconds[token.name] = self._seconds.get(token.name, 0.0) + seconds
            self._changed = True

    async def keep(self) -> None:
        """Write what was used every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(_PAUSE)
            await asyncio.to_thread(self.save)

    def save(self) -> None:
        """Write what was used, if it has changed."""
        if not self._changed:
            return
        self._changed = False
        part = self._path.with_name(f".{self._path.name}.part")
        try:
            part.write_text(json.dumps({"day": self._day, "seconds": dict(self._seconds)}))
            part.replace(self._path)
        except OSError as error:
            self._changed = True
            log.error("what tokens have used cannot be written", folder=str(self._path.parent), reason=error.strerror)

    def _turn_the_day(self) -> None:
        if (today := _today()) != self._day:
            self._day, self._seconds, self._changed = today, {}, True


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _until_tomorrow() -> float:
    now = datetime.now(UTC)
    tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (tomorrow - now).total_seconds()
