"""What a server must bear without anything staying behind: requests whose clients give up, and loads and unloads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness import audio
from harness.processes import resident
from harness.server import ASR, TTS, Server

LONG_TEXT = "One two three four five six seven eight nine ten. " * 10
AT_ONCE = 24


@dataclass(frozen=True, slots=True)
class Abort:
    """A request of which a client sends the first `sent` bytes, reads `read` bytes, waits, and hangs up."""

    data: bytes
    sent: int
    read: int = 0
    pause: float = 0.0

    async def run(self, port: int, *, reset: bool) -> None:
        """`reset` cuts the connection, otherwise it is closed."""
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


def kinds(recording: Path) -> list[Abort]:
    """The moments at which a client may go."""
    short, said = _form(recording), _speech(response_format="wav")
    streamed = _speech(response_format="mp3", stream_format="audio")
    events, spoken_events = _form(recording, stream="true"), _speech(stream_format="sse")
    return [
        Abort(short, len(short) // 2),  # during the upload
        Abort(short, 40),  # in the middle of the header
        Abort(short, len(short)),  # at once, so mostly in the queue
        Abort(said, len(said), pause=0.3),
        Abort(short, len(short), pause=0.5),  # during transcription, or in the queue
        Abort(streamed, len(streamed), read=2000),  # in the middle of streamed speech
        Abort(events, len(events), read=150, pause=0.2),  # in the middle of the events
        Abort(spoken_events, len(spoken_events), read=200),
    ]


async def abort(server: Server, recording: Path, count: int) -> list[BaseException]:
    """Give up `count` requests, every kind by turns, closed and cut by turns; what went wrong in doing so."""
    places = asyncio.Semaphore(AT_ONCE)
    aborts = kinds(recording)

    async def one(index: int) -> None:
        async with places:
            await aborts[index % len(aborts)].run(server.port, reset=index // len(aborts) % 2 == 0)

    results = await asyncio.gather(*(one(index) for index in range(count)), return_exceptions=True)
    return [result for result in results if result is not None]


def load_and_unload(server: Server, times: Mapping[str, int]) -> list[int]:
    """Load each model by a request and unload it, so many times, all models at the same time; the statuses."""
    clip = audio.encode(audio.tone(0.5), 16_000, "wav", "pcm_s16le")
    statuses: list[int] = []

    def cycle(model: str, count: int) -> None:
        with server.http() as http:
            for _ in range(count):
                answer = server.transcribe(clip) if model == ASR else server.speak("Hi.")
                statuses.append(answer.status_code)
                statuses.append(http.delete(f"/api/ps/{model}").status_code)

    threads = [threading.Thread(target=cycle, args=item) for item in times.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a server holds."""

    processes: int
    regions: int
    """Of shared memory, whether or not a process still maps them."""
    uploads: int
    descriptors: tuple[int, int]
    """Of talkies and of tritonserver."""
    threads: tuple[int, int]
    """Of talkies and of tritonserver; pools grow up to their size."""
    memory: tuple[float, float]
    """Resident MB of talkies and of tritonserver."""

    @classmethod
    def of(cls, server: Server) -> Footprint:
        pids = server.process.pid, server.triton_pid()
        return cls(
            processes=len(server.processes()),
            regions=len(list(Path("/dev/shm").glob(f"talkies-{server.process.pid}-*"))),  # noqa: S108
            uploads=len(list((server.data / "uploads").iterdir())),
            descriptors=(_descriptors(pids[0]), _descriptors(pids[1])),
            threads=(_threads(pids[0]), _threads(pids[1])),
            memory=(resident(pids[0]), resident(pids[1])),
        )

    def holds_no_more_than(self, before: Footprint) -> bool:
        """Memory aside: some open connections, and nothing else, may be there for a while."""
        return (
            (self.processes, self.regions, self.uploads) == (before.processes, before.regions, before.uploads)
            and self.descriptors[0] <= before.descriptors[0] + 4
            and self.descriptors[1] <= before.descriptors[1] + 4
        )


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


def _threads(pid: int) -> int:
    return int(psutil.Process(pid).num_threads())


def _form(path: Path, **fields: str) -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    texts = {"model": ASR, **fields}
    body = b"".join(part % (name.encode(), b"", value.encode()) for name, value in texts.items())
    body += part % (b"file", b'; filename="a.flac"', path.read_bytes()) + b"--x--\r\n"
    return _post("/v1/audio/transcriptions", "multipart/form-data; boundary=x", body)


def _speech(**fields: str) -> bytes:
    body = json.dumps({"model": TTS, "input": LONG_TEXT, **fields}).encode()
    return _post("/v1/audio/speech", "application/json", body)


def _post(path: str, kind: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: talkies\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
