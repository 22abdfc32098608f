"""A tritonserver that is only a dictionary, and its processes: what no real one can be made to do on demand."""

from __future__ import annotations

import asyncio
from collections import Counter

from talkies.engines.triton import State
from talkies.errors import Unavailable

from harness.server import TTS


class FakeTriton:
    """Loads take `seconds`; `calls` is what was asked, in order."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {"audio_chunks": State.READY}
        self.calls: list[tuple[str, str]] = []
        self.loads: Counter[str] = Counter()
        self.seconds = 0.0
        self.down = False

    async def index(self) -> dict[str, State]:
        if self.down:
            raise Unavailable("down")
        return dict(self.states)

    async def instances(self, name: str) -> int:
        return 2

    async def is_ready(self) -> bool:
        return not self.down

    async def wait_ready(self, within: float) -> None:
        self.calls.append(("wait", ""))
        self.down = False

    async def reconnect(self, *, force: bool) -> bool:
        self.calls.append(("reconnect", "anyway" if force else ""))
        return force

    async def load(self, name: str, within: float) -> None:
        self.calls.append(("load", name))
        await asyncio.sleep(self.seconds)
        self.states[name] = State.READY
        self.loads[name] += 1
        if name != "audio_chunks":
            self.states[_engine(name)] = State.READY

    async def unload(self, name: str) -> None:
        self.calls.append(("unload", name))
        self.states[name] = State.UNAVAILABLE
        if name != "audio_chunks":
            self.states[_engine(name)] = State.UNAVAILABLE

    async def last_used(self, name: str) -> float:
        return 0.0


class FakeProcesses:
    """Those of what `triton` has loaded, until they are killed."""

    def __init__(self, triton: FakeTriton) -> None:
        self._triton = triton
        self.killed: list[str] = []
        self.used = 0.0
        self.load = 0.0
        self.guests = False
        self.server = 1
        self.stubs = 2
        self.dying = 0
        """How many times a killed process is still found."""

    def of(self, name: str) -> FakeEngineProcesses:
        return FakeEngineProcesses(self, name, self._triton.loads[name])

    def living(self, name: str, load: int) -> int:
        """Of the model's that many-th load."""
        if name in self.killed:
            self.dying -= 1
            return int(self.dying >= 0)
        if load < self._triton.loads[name] or self._triton.states.get(name, State.UNAVAILABLE) is State.UNAVAILABLE:
            return 0
        return self.stubs if name == "audio_chunks" else 1

    def has_guests(self) -> bool:
        return self.guests

    def kill_server(self) -> None:
        self.killed.append("tritonserver")


class FakeEngineProcesses:
    """Those of one load of a model, until it is unloaded or they are killed."""

    def __init__(self, all_of_them: FakeProcesses, name: str, load: int) -> None:
        self._all = all_of_them
        self._name = name
        self._load = load

    def __len__(self) -> int:
        return self._all.living(self._name, self._load)

    def kill(self) -> None:
        self._all.killed.append(self._name)

    def cpu_seconds(self) -> float:
        self._all.used += self._all.load
        return self._all.used


def _engine(name: str) -> str:
    return name if name == TTS else f"{name}.engine"
