"""A file of hours: whether all of it is heard, whether somebody can watch, and what the processes hold meanwhile."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from talkies.settings import Settings

from benchmarks.server import serving
from harness import audio, processes
from harness.server import ASR, JFK, JFK_WORDS, Server
from harness.words import normalize

RATE = 16_000
SLOT = 90.0
"""Seconds from one recording to the next: mostly silence, so that a file of six hours is heard in minutes."""
_SAMPLE = 2.0
"""Seconds between two looks at the memory."""
_GROWTH = 32.0
"""MB that a process may hold more in the last third than in the first: a six-hour file is 690 MB of samples."""
_WAIT = 60.0
"""Seconds without an event are too many for who watches."""
_JUMP = 32
"""Slots in one event too: two full batches of the engine."""
_TIMEOUT = 3600.0
_LOG = 4000
"""Characters of the server's log that say why it failed."""


@dataclass(slots=True)
class Run:
    """What was seen of one request."""

    seconds: list[float] = field(default_factory=list)
    """Of the file, of each event of progress."""
    at: list[float] = field(default_factory=list)
    """When each came, in seconds from the request's start."""
    answer: dict[str, Any] = field(default_factory=dict)
    """verbose_json."""
    memory: list[dict[str, float]] = field(default_factory=list)
    """MB of each process, by its name and number, over time."""


def main(settings: Settings, hours: float) -> bool:
    """Transcribe a file of that length on a server of its own; figures as tables; whether all was well."""
    slots = int(hours * 3600 / SLOT)
    with tempfile.TemporaryDirectory(prefix="talkies-long-") as scratch:
        file = Path(scratch) / "long.flac"
        write(file, slots)
        data = Path(scratch) / "data"
        data.mkdir()
        with serving(settings, data, PRELOAD=ASR) as server:
            server.transcribe(JFK).raise_for_status()  # pays for what a first request costs
            run = _transcribe(server, file)
    return report(run, slots)


def write(path: Path, slots: int) -> None:
    """A FLAC of so many slots, each a recording and silence, never as a whole in memory."""
    speech = audio.decode(JFK, RATE)
    slot = np.concatenate([speech, np.zeros(round(SLOT * RATE) - len(speech), np.int16)])
    with av.open(str(path), "w", format="flac") as file:
        stream = file.add_stream("flac", rate=RATE, layout="mono")
        for number in range(slots):
            for begin in range(0, len(slot), RATE):
                frame = av.AudioFrame.from_ndarray(slot[None, begin : begin + RATE], format="s16", layout="mono")
                frame.sample_rate, frame.pts = RATE, number * len(slot) + begin
                file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def _transcribe(server: Server, file: Path) -> Run:
    run, done = Run(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(server, run, done))
    watcher.start()
    started = time.monotonic()
    try:
        fields = {"model": ASR, "response_format": "verbose_json", "stream": "true", "include": "progress"}
        with (
            file.open("rb") as opened,
            server.http(timeout=_TIMEOUT) as http,
            http.stream("POST", "/v1/audio/transcriptions", files={"file": ("long", opened)}, data=fields) as answer,
        ):
            answer.raise_for_status()
            for line in _lines(answer, server):
                if not line.startswith("data: "):
                    continue
                event = json.loads(line.removeprefix("data: "))
                if event["type"] == "transcript.progress":
                    run.seconds.append(event["seconds"])
                    run.at.append(time.monotonic() - started)
                elif event["type"] == "transcript.text.done":
                    run.answer = event
                elif event["type"] == "error":
                    raise SystemExit(f"the server failed: {event['detail']}")
    finally:
        done.set()
        watcher.join()
    return run


def _lines(answer: httpx.Response, server: Server) -> Iterator[str]:
    """The lines of the answer. Raises SystemExit with what the server has logged when it breaks off."""
    try:
        yield from answer.iter_lines()
    except httpx.HTTPError as error:
        raise SystemExit(f"the answer broke off: {error}\n{server.log()[-_LOG:]}") from None


def _watch(server: Server, run: Run, done: threading.Event) -> None:
    while not done.wait(_SAMPLE):
        now: dict[str, float] = {}
        for process in [psutil.Process(server.process.pid), *processes.descendants(server.process.pid)]:
            try:
                now[f"{processes.name_of(process)} {process.pid}"] = processes.resident(process.pid)
            except psutil.NoSuchProcess:
                continue
        run.memory.append(now)


def lost(segments: Sequence[dict[str, Any]], slots: int) -> list[int]:
    """The slots in which the recording was not heard once, in its place."""
    texts: dict[int, str] = defaultdict(str)
    for segment in segments:
        texts[int((segment["start"] + segment["end"]) / 2 // SLOT)] += segment["text"]
    return [slot for slot in range(slots) if normalize(texts[slot]).count(JFK_WORDS) != 1]


def grown(memory: Sequence[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """MB that each process held at most in the first third of the time, and in the last."""
    third = max(1, len(memory) // 3)

    def most(name: str, part: Sequence[dict[str, float]]) -> float:
        return max((now.get(name, 0.0) for now in part), default=0.0)

    names = sorted({name for now in memory for name in now})
    return {name: (most(name, memory[:third]), most(name, memory[-third:])) for name in names}


def report(run: Run, slots: int) -> bool:
    console = Console()
    table = Table("process", "MB at most, first third", "last third")
    held = grown(run.memory)
    for name, (first, last) in held.items():
        table.add_row(name, f"{first:.0f}", f"{last:.0f}")
    console.print(table)
    missing = lost(run.answer["segments"], slots)
    pauses = [later - earlier for earlier, later in pairwise([0.0, *run.at])]
    jumps = [later - earlier for earlier, later in pairwise([0.0, *run.seconds])]
    console.print(
        f"{run.answer['duration'] / 3600:.2f} h in {run.at[-1]:.0f} s; "
        f"{slots - len(missing)} of {slots} recordings heard in their places; "
        f"{len(run.at)} events, {max(pauses):.1f} s at most between two, {max(jumps):.0f} s of the file at most in one"
    )
    bounded = all(last - first <= _GROWTH for first, last in held.values())
    watched = min(jumps) >= 0 and max(pauses) <= _WAIT and max(jumps) <= _JUMP * SLOT
    whole = not missing and run.seconds[-1] == run.answer["duration"]
    console.print("borne" if (borne := bounded and watched and whole) else "not borne")
    return borne
