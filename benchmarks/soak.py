"""Hundreds of requests that are given up, and of loads and unloads: whether anything stays behind."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from talkies.settings import Settings

from benchmarks.server import serving
from harness import soak
from harness.server import ASR, JFK, TTS, Server, wait_until
from harness.soak import Footprint

ABORTS = 200
LOADS = {ASR: 40, TTS: 10}
WARM_LOADS = {ASR: 5, TTS: 2}
_SETTLE = 30.0
_GROWTH = 20.0
"""MB: a model's copy is some 100, an open stream 1; what the allocator keeps does not grow with the loads."""


def main(settings: Settings, rounds: int) -> bool:
    """Both, `rounds` times over, on a server of its own, as a table; whether it held no more afterwards."""
    with tempfile.TemporaryDirectory(prefix="talkies-soak-") as scratch:
        data = Path(scratch) / "data"
        data.mkdir()
        with serving(settings, data, MAX_CONCURRENCY="2", PRELOAD=f"{ASR},{TTS}") as server:
            return _measure(server, rounds)


def _measure(server: Server, rounds: int) -> bool:
    asyncio.run(soak.abort(server, JFK, ABORTS // 4))
    soak.load_and_unload(server, WARM_LOADS)
    footprints = [_settled(server)]
    faults = 0
    for _ in range(rounds):
        faults += len(asyncio.run(soak.abort(server, JFK, ABORTS)))
        faults += sum(status != 200 for status in soak.load_and_unload(server, LOADS))
        footprints.append(_settled(server))
    table = Table(
        "round", "processes", "regions", "uploads", "descriptors", "threads", "MB of talkies", "MB of tritonserver"
    )
    for number, footprint in enumerate(footprints):
        counts = footprint.processes, footprint.regions, footprint.uploads, footprint.descriptors, footprint.threads
        table.add_row(str(number), *map(str, counts), *(f"{mb:.0f}" for mb in footprint.memory))
    console = Console()
    console.print(table)
    first, last = footprints[0], footprints[-1]
    grown = max(now - then for now, then in zip(last.memory, first.memory, strict=True))
    borne = not faults and last.holds_no_more_than(first) and grown <= _GROWTH
    done = f"{rounds * ABORTS} aborts, {rounds * sum(LOADS.values())} loads, {faults} faults, {grown:+.0f} MB"
    console.print(f"{done}: {'borne' if borne else 'not borne'}")
    return borne


def _settled(server: Server) -> Footprint:
    """With nothing running and nothing loaded."""
    wait_until(lambda: server.active() == 0, _SETTLE, "no request is running")
    server.unload()
    return Footprint.of(server)
