"""What a client sees while parts are killed, stopped and starved, and how soon all is well again."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table
from talkies.settings import Settings

from benchmarks.server import serving
from harness import audio
from harness.server import ASR, JFK, TTS, Server, start, stop, wait_until
from harness.soak import LONG_TEXT, Footprint

_GOOD = 120.0
"""Longest wait for a good answer and for the parts to be whole again."""
_SETTLE = 30.0
"""Longest wait for what the fault left behind to be gone."""
_LONG = 8
"""How often the recording is repeated for the long file that a fault comes into."""
_HANG = "5"
"""Seconds of silence after which tritonserver counts as hung, here."""
_CLIENTS: dict[str, Callable[[Server, bytes], httpx.Response]] = {
    "file": lambda server, long: server.transcribe(long),
    "clip": lambda server, _: server.transcribe(JFK),
    "speech": lambda server, _: server.speak(LONG_TEXT),
}


@dataclass(slots=True)
class Drill:
    """One fault."""

    name: str
    do: Callable[[Server], None]
    spared: tuple[str, ...] = ()
    """The Triton models whose processes must be the same afterwards."""
    under_load: bool = False
    answers: Counter[str] = field(default_factory=Counter)
    """Of the requests that the fault came into."""
    seconds: float = 0.0
    """From the fault until both models have answered well."""
    left: int = 0
    """MB of shared memory that tritonserver keeps of each process that died, until it is started anew."""
    faults: list[str] = field(default_factory=list)


def main(settings: Settings) -> bool:
    """Every drill on one server, as a table; whether each was borne."""
    drills = [*_drills()]
    with tempfile.TemporaryDirectory(prefix="talkies-drills-") as scratch:
        data = Path(scratch) / "data"
        data.mkdir()
        with serving(settings, data, PRELOAD=f"{ASR},{TTS}", HANG_TIMEOUT=_HANG) as server:
            long = audio.encode(np.tile(audio.decode(JFK), _LONG), 16_000, "flac", "flac")
            for drill in track(drills, "drills", console=Console(stderr=True)):
                _run(drill, server, long)
        drills.append(_killed_talkies(settings, Path(scratch)))
    table = Table("fault", "requests in it", "good again", "left", "not borne")
    for drill in drills:
        answers = ", ".join(f"{count} x {answer}" for answer, count in sorted(drill.answers.items()))
        table.add_row(
            drill.name, answers or "-", f"{drill.seconds:.1f} s", f"{drill.left:+d} MB", "; ".join(drill.faults)
        )
    console = Console()
    console.print(table)
    failed = sum(bool(drill.faults) for drill in drills)
    console.print(f"{len(drills)} drills, {failed} not borne")
    return not failed


def _drills() -> Iterator[Drill]:
    engine = f"{ASR}.engine"
    for under_load in (False, True):
        when = "in the middle of requests" if under_load else "idle"
        for word, way in (("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)):
            yield Drill(f"{word} one audio_chunks, {when}", _signal("audio_chunks", way, 1), (engine, TTS), under_load)
            yield Drill(f"{word} both audio_chunks, {when}", _signal("audio_chunks", way, 2), (engine, TTS), under_load)
            yield Drill(f"{word} Whisper, {when}", _signal(engine, way), (TTS,), under_load)
            yield Drill(f"{word} Kokoro, {when}", _signal(TTS, way), (engine,), under_load)
            yield Drill(f"{word} tritonserver, {when}", _signal("tritonserver", way), (), under_load)
    yield Drill("kill tritonserver twice", _twice)
    yield Drill("no room on the disk", _full_disk, ("tritonserver", engine, TTS))
    yield Drill("no descriptors", _no_descriptors, ("tritonserver", engine, TTS))


def _signal(model: str, way: signal.Signals, count: int = 1) -> Callable[[Server], None]:
    def send(server: Server) -> None:
        for pid in server.pids(model)[:count]:
            os.kill(pid, way)

    return send


def _twice(server: Server) -> None:
    first = server.triton_pid()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: server.pids("tritonserver") not in ([], [first]), _GOOD, "another tritonserver")
    os.kill(server.triton_pid(), signal.SIGKILL)


def _full_disk(server: Server) -> None:
    """No file may grow above 64 kB: what a full disk does to a write, without one."""
    with _limited(server, resource.RLIMIT_FSIZE, 1 << 16):
        status = server.transcribe(JFK).status_code
    if status != 507:
        raise AssertionError(f"an upload was answered {status}, not 507")


def _no_descriptors(server: Server) -> None:
    talkies = psutil.Process(server.process.pid)
    with _limited(server, resource.RLIMIT_NOFILE, talkies.num_fds() + 2):
        for _ in range(20):
            try:
                server.transcribe(JFK)
            except httpx.TransportError:
                continue


@contextmanager
def _limited(server: Server, what: int, limit: int) -> Iterator[None]:
    talkies = psutil.Process(server.process.pid)
    before = talkies.rlimit(what)
    talkies.rlimit(what, (limit, before[1]))
    try:
        yield
    finally:
        talkies.rlimit(what, before)


def _run(drill: Drill, server: Server, long: bytes) -> None:
    """The fault, on a server that is whole, and what becomes of it."""
    _good(server)
    spared = {name: sorted(server.pids(name)) for name in drill.spared}
    before = Footprint.of(server)
    with ThreadPoolExecutor() as pool:
        requests: dict[str, Future[httpx.Response]] = {}
        if drill.under_load:
            requests = {name: pool.submit(ask, server, long) for name, ask in _CLIENTS.items()}
            wait_until(lambda: server.active() >= len(requests), _GOOD, "all requests are running")
        began = time.monotonic()
        try:
            drill.do(server)
            _good(server)
            drill.seconds = time.monotonic() - began
        except (AssertionError, httpx.TransportError) as error:
            drill.faults.append(str(error))
        for name, request in requests.items():
            answer = request.result(300)
            drill.answers[str(answer.status_code)] += 1
            if answer.status_code not in (200, 503):
                drill.faults.append(f"{name}: {answer.status_code}")
            if answer.status_code == 503 and "retry-after" not in answer.headers:
                drill.faults.append(f"{name}: 503 without Retry-After")
    _compare(drill, server, spared, before)


def _compare(drill: Drill, server: Server, spared: dict[str, list[int]], before: Footprint) -> None:
    for name, pids in spared.items():
        if sorted(server.pids(name)) != pids:
            drill.faults.append(f"{name} has another process")
    try:
        wait_until(lambda: _is_whole(Footprint.of(server), before), _SETTLE, "")
    except AssertionError:
        drill.faults.append(f"left {Footprint.of(server)} of {before}")
    drill.left = Footprint.of(server).regions - before.regions


def _is_whole(now: Footprint, before: Footprint) -> bool:
    """But for what tritonserver keeps."""
    return (now.processes, now.uploads) == (before.processes, before.uploads) and (
        now.descriptors[0] <= before.descriptors[0] + 4
    )


def _good(server: Server) -> None:
    """Both models answer well. Raises AssertionError when they do not within `_GOOD` seconds."""
    deadline = time.monotonic() + _GOOD
    for ask in (lambda: server.transcribe(JFK), server.speak):
        while (status := _status(ask)) != 200:
            if time.monotonic() > deadline:
                raise AssertionError(f"after {_GOOD:.0f} s still {status}")
            time.sleep(0.2)


def _status(ask: Callable[[], httpx.Response]) -> int:
    try:
        return ask().status_code
    except httpx.TransportError:
        return 0


def _killed_talkies(settings: Settings, scratch: Path) -> Drill:
    """`talkies serve` itself, in the middle of requests, and a new start on the same folders."""
    drill = Drill("kill talkies, start it again", lambda _: None)
    data = scratch / "killed"
    data.mkdir()
    with serving(settings, data) as server:
        _good(server)
        with ThreadPoolExecutor() as pool:
            request = pool.submit(_status, lambda: server.speak(LONG_TEXT * 4))
            wait_until(lambda: server.active() == 1, _GOOD, "it speaks")
            below = server.processes()
            began = time.monotonic()
            server.process.kill()
            server.process.wait()
            drill.answers["none" if request.result() == 0 else "an answer"] += 1
        again = start(data, {"ENVS_DIR": str(settings.envs), "MAX_LOADED_MODELS": "2"}, settings.data_dir)
        try:
            _good(again)
            drill.seconds = time.monotonic() - began
            if left := [pid for pid in below if psutil.pid_exists(pid)]:
                drill.faults.append(f"{len(left)} processes are left")
            if regions := list(Path("/dev/shm").glob(f"talkies-{server.process.pid}-*")):  # noqa: S108
                drill.faults.append(f"{len(regions)} regions of shared memory are left")
            if uploads := list((data / "uploads").iterdir()):
                drill.faults.append(f"{len(uploads)} uploads are left")
        finally:
            stop(again)
    return drill
