"""What must not stay behind: after requests that their clients gave up, and after many loads and unloads.

`scripts/bench --soak` does the same some hundreds of times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from harness import soak
from harness.server import ASR, TTS, Server, wait_until
from harness.soak import Footprint

ABORTS = 32
"""Every kind four times, two of them cut."""
WARM_LOADS, LOADS = {ASR: 3, TTS: 2}, {ASR: 8, TTS: 2}


async def test_aborted_requests(start_server: Callable[..., Server], jfk: Path) -> None:
    server = start_server(MAX_LOADED_MODELS="2", MAX_CONCURRENCY="2", PRELOAD=f"{ASR},{TTS}")
    assert (server.transcribe(jfk).status_code, server.speak().status_code) == (200, 200)
    before = Footprint.of(server)
    assert await soak.abort(server, jfk, ABORTS) == []
    await asyncio.to_thread(wait_until, lambda: server.active() == 0, 60, "no request is running")
    await asyncio.to_thread(
        wait_until, lambda: Footprint.of(server).holds_no_more_than(before), 60, f"it holds no more than {before}"
    )
    assert (await asyncio.to_thread(server.transcribe, jfk)).status_code == 200
    assert (await asyncio.to_thread(server.speak)).status_code == 200


def test_loads_and_unloads(server: Server) -> None:
    """Of both models at the same time."""
    server.unload()
    soak.load_and_unload(server, WARM_LOADS)
    before = Footprint.of(server)
    assert soak.load_and_unload(server, LOADS) == [200] * 2 * sum(LOADS.values())
    assert server.loaded() == {}
    wait_until(lambda: Footprint.of(server).holds_no_more_than(before), 60, f"it holds no more than {before}")
    for now, then in zip(Footprint.of(server).memory, before.memory, strict=True):
        # A model's copy is some 100 MB and an open stream 1; what the allocator keeps does not grow with the loads.
        assert now <= then + 20
