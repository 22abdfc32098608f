"""Many clients at once: every answer comes and is the right one. `scripts/bench --load` measures fifty for a minute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import load
from benchmarks.audio import Corpus
from harness import audio
from harness.processes import resident
from harness.server import ASR, TTS, Server

SECONDS = 3
CLIENTS = {kind: max(1, count // 2) for kind, count in load.CLIENTS.items()}
LONG_REPEATS = 3


def recordings(jfk: Path, folder: Path) -> Corpus:
    speech = audio.decode(jfk)
    paths = folder / "long.wav", folder / "clip.wav"
    for path, samples in zip(
        paths, (np.tile(np.pad(speech, (0, 16_000)), LONG_REPEATS), speech[: 3 * 16_000]), strict=True
    ):
        path.write_bytes(audio.encode(samples, 16_000, "wav", "pcm_s16le"))
    return Corpus(long=paths[0], clips=(), short=paths[1])


async def test_many_clients(server: Server, tmp_path: Path, jfk: Path) -> None:
    clients = load.Load(server.url, recordings(jfk, tmp_path), ASR, TTS)
    await clients.warm_up()
    await clients.run({"clip": 4, "speech": 2, "file": 4}, SECONDS / 3)
    memory = resident(server.process.pid)
    await clients.run(CLIENTS, SECONDS)
    assert clients.errors() == []
    assert {outcome.kind for outcome in clients.outcomes if not outcome.fault} == set(load.CLIENTS)
    assert await clients.active() == 0
    assert resident(server.process.pid) < memory + 60
    assert list((server.data / "uploads").iterdir()) == []


async def test_more_than_the_queue_holds(start_server: Callable[..., Server], tmp_path: Path, jfk: Path) -> None:
    """What does not fit is refused with the seconds to wait; what was taken is answered."""
    server = start_server(MAX_LOADED_MODELS="2", PRELOAD=f"{ASR},{TTS}", MAX_CONCURRENCY="2", MAX_QUEUE="4")
    clients = load.Load(server.url, recordings(jfk, tmp_path), ASR, TTS)
    await clients.warm_up()
    await clients.run({**CLIENTS, "long": 0}, SECONDS / 3)
    assert clients.errors() == []
    assert [fault for kind, fault in clients.faults() if kind == "clip"]
    assert [outcome for outcome in clients.outcomes if outcome.kind == "clip" and not outcome.fault]
    assert await clients.active() == 0
