"""Many inputs into one transcript file each: resumable, several at a time, patient with a busy server."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

from talkies.cli.client import Busy, Client, Refused, Transcription, Unreachable
from talkies.cli.inputs import group, stem, transcribe_source, with_newline

_ATTEMPTS = 8
_LONGEST_PAUSE = 30.0
"""Seconds; with the number of attempts, about a minute and a half for a server that restarts or is overloaded."""
_LONGEST_NAME = 200
"""Bytes of a file's stem: what file systems allow less a digest, a suffix and `.part`."""

_backoff = wait_exponential_jitter(initial=1, max=_LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class Job:
    """A path or URL and the file that its transcript goes to."""

    source: str
    output: Path


def read_list(lines: Iterable[str]) -> list[str]:
    """The inputs that a list names, each once: one per line, without blank lines and those that begin with #."""
    stripped = (line.strip() for line in lines)
    return list(dict.fromkeys(line for line in stripped if line and not line.startswith("#")))


def plan(sources: Sequence[str], folder: Path, suffix: str) -> list[Job]:
    """Where each transcript goes: the input's name with another suffix.

    All inputs of a list that would share a name get a digest of the whole path or URL after it: it does not depend on
    the order of the list, so that a second run finds the transcripts of the first.
    """
    stems = [os.fsencode(stem(source))[:_LONGEST_NAME].decode(errors="ignore") or "input" for source in sources]
    count = Counter(name.casefold() for name in stems)  # as file systems that ignore case compare
    return [
        Job(source, folder / f"{name}{f'-{_digest(source)}' if count[name.casefold()] > 1 else ''}{suffix}")
        for source, name in zip(sources, stems, strict=True)
    ]


def _digest(source: str) -> str:
    return hashlib.sha256(os.fsencode(source)).hexdigest()[:8]


async def run(
    client: Client,
    jobs: Sequence[Job],
    request: Transcription,
    *,
    at_once: int,
    report: Callable[[Job, Refused | None], None],
) -> None:
    """Transcribe all jobs and `report` each as it ends, with what it failed of.

    Raises Unreachable when no server answers (any more): what has been reported by then is done.
    """
    slots = asyncio.Semaphore(at_once)

    async def one(job: Job) -> None:
        async with slots:
            try:
                _write(job.output, await _patience()(transcribe_source, client, job.source, request))
            except Refused as error:
                report(job, error)
            else:
                report(job, None)

    async with group() as running:
        for job in jobs:
            running.create_task(one(job))


def _patience() -> AsyncRetrying:
    """Calls again for as long as the server is busy, restarts or drops the connection."""
    return AsyncRetrying(
        retry=retry_if_exception_type((Busy, Unreachable)),
        wait=_pause,
        stop=stop_after_attempt(_ATTEMPTS),
        reraise=True,
    )


def _pause(state: RetryCallState) -> float:
    """Seconds until the next attempt: what the server asks for, at least the growing back-off."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, Busy) else 0.0
    return min(max(asked, _backoff(state)), _LONGEST_PAUSE)


def _write(output: Path, transcript: str) -> None:
    """All of it or nothing. Raises Refused when the file cannot be written."""
    part = output.with_name(f"{output.name}.part")
    try:
        part.write_text(with_newline(transcript), encoding="utf-8")
        part.replace(output)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise Refused(f"{output} cannot be written: {error.strerror}.") from None
