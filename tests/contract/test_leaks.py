"""What must not stay behind: after requests that their clients gave up, and after many loads and unloads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests import audio
from tests.conftest import Server, wait_until
from tests.contract.test_lifecycle import ASR, TTS, loaded, speak, transcribe

ABORTS = 200
LOADS = {ASR: 40, TTS: 10}
WARM_LOADS = {ASR: 5, TTS: 2}
LONG_TEXT = "One two three four five six seven eight nine ten. " * 10


@dataclass(frozen=True, slots=True)
class Request:
    """A request of which a client sends the first `sent` bytes, reads `read` bytes, waits, and hangs up."""

    data: bytes
    sent: int
    read: int = 0
    pause: float = 0.0

    async def abort(self, port: int, *, reset: bool) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(self.data[: self.sent])
            await writer.drain()
            if self.read:
                await asyncio.wait_for(reader.readexactly(self.read), 120)
            await asyncio.sleep(self.pause)
        finally:
            if reset:
                writer.transport.abort()
            else:
                writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def form(path: Path, **fields: str) -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    body = b"".join(part % (name.encode(), b"", value.encode()) for name, value in fields.items())
    body += part % (b"file", b'; filename="a.flac"', path.read_bytes()) + b"--x--\r\n"
    return _post("/v1/audio/transcriptions", "multipart/form-data; boundary=x", body)


def speech(**fields: str) -> bytes:
    body = json.dumps({"model": TTS, "input": LONG_TEXT, **fields}).encode()
    return _post("/v1/audio/speech", "application/json", body)


def _post(path: str, kind: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: talkies\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


def megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def regions(server: Server) -> set[str]:
    """The names of the server's shared-memory regions, whether or not a process still maps them."""
    return {path.name for path in Path("/dev/shm").glob(f"talkies-{server.process.pid}-*")}  # noqa: S108


async def test_aborted_requests(start_server: Callable[..., Server], jfk: Path) -> None:
    server = start_server(MAX_LOADED_MODELS="2", MAX_CONCURRENCY="2", PRELOAD=f"{ASR},{TTS}")
    assert (transcribe(server, jfk), speak(server)) == (200, 200)
    short, said = form(jfk, model=ASR), speech(response_format="wav")
    streamed = speech(response_format="mp3", stream_format="audio")
    events, spoken_events = form(jfk, model=ASR, stream="true"), speech(stream_format="sse")
    kinds = [
        Request(short, len(short) // 2),  # during the upload
        Request(short, 40),  # in the middle of the header
        Request(short, len(short)),  # at once, so mostly in the queue
        Request(said, len(said), pause=0.3),
        Request(short, len(short), pause=0.5),  # during transcription, or in the queue
        Request(streamed, len(streamed), read=2000),  # in the middle of streamed speech
        Request(events, len(events), read=150, pause=0.2),  # in the middle of the events
        Request(spoken_events, len(spoken_events), read=200),
    ]
    before = descriptors(server.process.pid), descriptors(server.triton_pid())
    places = asyncio.Semaphore(24)

    async def abort(index: int) -> None:
        async with places:
            await kinds[index % len(kinds)].abort(server.port, reset=index // len(kinds) % 2 == 0)

    results = await asyncio.gather(*(abort(index) for index in range(ABORTS)), return_exceptions=True)
    assert [result for result in results if result is not None] == []

    def idle() -> bool:
        return sum(int(str(model["active_requests"])) for model in loaded(server).values()) == 0

    await asyncio.to_thread(wait_until, idle, 30, "no request is running")
    wait_for = lambda condition, what: asyncio.to_thread(wait_until, condition, 20, what)  # noqa: E731
    await wait_for(lambda: not list((server.data / "uploads").iterdir()), "the uploads are gone")
    await wait_for(lambda: descriptors(server.process.pid) <= before[0] + 4, "talkies has closed its files")
    await wait_for(lambda: descriptors(server.triton_pid()) <= before[1] + 4, "tritonserver has closed its files")
    assert await asyncio.to_thread(transcribe, server, jfk) == 200
    assert await asyncio.to_thread(speak, server) == 200


def test_loads_and_unloads(start_server: Callable[..., Server], tmp_path: Path) -> None:
    """Fifty loads, of both models at the same time."""
    server = start_server(MAX_LOADED_MODELS="2")
    clip = tmp_path / "tone.wav"
    clip.write_bytes(audio.encode(audio.tone(0.5), 16_000, "wav", "pcm_s16le"))

    def cycle(model: str, times: int) -> None:
        with server.http() as http:
            for _ in range(times):
                statuses.append(transcribe(server, clip) if model == ASR else speak(server, "Hi."))
                statuses.append(http.delete(f"/api/ps/{model}").status_code)

    def cycles(times: dict[str, int]) -> None:
        threads = [threading.Thread(target=cycle, args=item) for item in times.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(280)

    def state() -> tuple[int, int]:
        return len(server.processes()), len(regions(server))

    statuses: list[int] = []
    cycles(WARM_LOADS)
    before = state()
    memory = {pid: megabytes(pid) for pid in (server.process.pid, server.triton_pid())}
    cycles({model: times - WARM_LOADS[model] for model, times in LOADS.items()})
    assert statuses == [200] * 2 * sum(LOADS.values())
    assert loaded(server) == {}
    wait_until(lambda: state() == before, 10, f"processes and regions are as before: {before}, now {state()}")
    for pid, megabytes_before in memory.items():
        # A model's copy is some 100 MB and an open stream 1; what the allocator keeps does not grow with the loads.
        assert megabytes(pid) <= megabytes_before + 20
