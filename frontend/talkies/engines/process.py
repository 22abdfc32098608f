"""The embedded tritonserver: started, watched, restarted, and gone when talkies is gone."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import structlog

from talkies.engines import arguments
from talkies.engines.command import command
from talkies.engines.triton import Keys
from talkies.errors import StartupError
from talkies.settings import Settings, address
from talkies.tasks import must_run

log = structlog.get_logger("talkies.server")

_GUARD = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: die with talkies, whatever kills it
talkies, undertaker = sys.argv[1:3]
if os.getppid() != int(talkies):
    sys.exit(1)
server = os.getpid()
if os.fork() == 0:
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", undertaker, str(server)])
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Becomes tritonserver. Arguments: the pid of talkies, `_UNDERTAKER`, tritonserver and what it gets."""

_UNDERTAKER = """
import os, select, signal, sys
server = int(sys.argv[1])
end = os.pidfd_open(server)
if os.getppid() == server:
    select.select([end], [], [])
os.killpg(server, signal.SIGKILL)
"""
"""Waits beside tritonserver, and kills what it has left in its group, itself too. An engine's process looks after
itself, but one that is stopped does not, nor one that waits for the dead server inside of Triton's code with Python's
lock in its hand."""

_ESTABLISHED = "01"
"""A connection's state in /proc/net/tcp."""

_FIRST_BACKOFF, _LAST_BACKOFF = 0.5, 30.0
_LONG_LOG = 16 << 20
"""Bytes after which the next tritonserver begins a new log."""
_STEADY = 60.0
"""A server that lived this many seconds gets the first backoff again."""


class EngineProcesses:
    """Processes of a Triton model: these, whatever else gets their numbers or the model's name later."""

    def __init__(self, name: str, found: Sequence[psutil.Process]) -> None:
        self._name = name
        self._found = found

    def __len__(self) -> int:
        """How many of them live. One that is ending does, although it has no arguments any more that would name it."""
        return len(self._living())

    def kill(self) -> None:
        for process in self._living():
            log.warning("killing engine", model=self._name, pid=process.pid)
            with contextlib.suppress(psutil.Error):
                process.kill()

    def cpu_seconds(self) -> float:
        """Seconds that they have computed so far."""
        seconds = 0.0
        for process in self._living():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                seconds += times.user + times.system
        return seconds

    def _living(self) -> list[psutil.Process]:
        found = []
        for process in self._found:
            with contextlib.suppress(psutil.Error):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


class EmbeddedServer:
    """One tritonserver process group on this machine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.keys = Keys(
            admin=settings.triton_admin_key.get_secret_value() or secrets.token_urlsafe(24),
            inference=settings.grpc_key.get_secret_value(),
            path=settings.path_key.get_secret_value() or secrets.token_urlsafe(24),
        )
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._hiding: asyncio.Task[None] | None = None
        # The process's number alone may be that of one that was killed.
        self._regions = f"talkies-{os.getpid()}-{secrets.token_hex(4)}-"

    @property
    def url(self) -> str:
        """gRPC address for clients on this machine."""
        return address(self._settings.grpc_host, self._settings.grpc_port)

    async def start(self) -> None:
        """Start the process and its watcher. It answers some seconds later: see `Triton.wait_ready`.

        What a killed talkies of this data directory has left in the shared memory is freed.
        """
        note = self._settings.data_dir / "run" / "regions"
        if note.exists():
            _free(note.read_text())
        note.write_text(self._regions)
        process = await self._spawn()
        self._watch = must_run(asyncio.create_task(self._supervise(process), name="tritonserver-watch"))

    async def stop(self, hurry: asyncio.Event) -> None:
        """End the server: SIGTERM, then, at once when in a `hurry`, SIGKILL to whatever is left of its group."""
        if self._hiding:
            self._hiding.cancel()
        if self._watch:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        process = self._process
        if process and process.returncode is None:
            process.terminate()
            ends = {asyncio.ensure_future(process.wait()), asyncio.ensure_future(hurry.wait())}
            _, waiting = await asyncio.wait(ends, timeout=10, return_when=asyncio.FIRST_COMPLETED)
            for end in waiting:
                end.cancel()
        self._bury()

    def last_words(self) -> str:
        """Where tritonserver's log is, and the last error in it."""
        if self._settings.triton_log == "stderr":
            return "The lines above are tritonserver's."
        path = _log(self._settings)
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        errors = [line.partition("] ")[2] for line in lines if re.match(r"[EF]\d{4} ", line)]
        return f"Its log is {path}" + (f"; the last error: {errors[-1].strip()}" if errors else ".")

    @property
    def server(self) -> int:
        """The pid of tritonserver, 0 without one."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    def kill_server(self) -> None:
        """Kill tritonserver, which hangs; its supervisor starts another."""
        if self.server:
            log.error("killing tritonserver", pid=self.server)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.server, signal.SIGKILL)

    def has_guests(self) -> bool:
        """Whether others than this process, which has one connection, are connected to the gRPC port."""
        connected = 0
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with contextlib.suppress(OSError):
                for line in Path(table).read_text().splitlines()[1:]:
                    _, local, _, state = line.split()[:4]
                    connected += state == _ESTABLISHED and int(local.rpartition(":")[2], 16) == self._settings.grpc_port
        return connected > 1

    def of(self, name: str) -> EngineProcesses:
        """The living processes of a Triton model."""
        model = f"/{name}/1/model.py"
        found = []
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self._process.pid).children() if self._process else ():
                with contextlib.suppress(psutil.Error):
                    if any(argument.endswith(model) for argument in process.cmdline()):
                        found.append(process)
        return EngineProcesses(name, found)

    async def _supervise(self, process: asyncio.subprocess.Process) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            started = time.monotonic()
            code = await process.wait()
            self._bury()
            if self._hiding:
                self._hiding.cancel()
            if time.monotonic() - started > _STEADY:
                backoff = _FIRST_BACKOFF
            log.error("tritonserver ended", code=code, restart_in=backoff)
            while True:
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, _LAST_BACKOFF)
                try:
                    process = await self._spawn()
                    break
                except (
                    OSError,
                    StartupError,
                ) as error:  # no disk, no descriptors, an environment that is being rebuilt
                    log.error("tritonserver cannot be started", reason=str(error), again_in=backoff)

    async def _spawn(self) -> asyncio.subprocess.Process:
        run = self._settings.data_dir / "run"
        made = command(self._settings, self.keys, run / "backends", regions=self._regions, drain=5)
        with _log_file(self._settings) as stderr:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-c", _GUARD, str(os.getpid()), _UNDERTAKER, *made.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=stderr,
                env=made.environment,
                start_new_session=True,  # Ctrl-C in a terminal reaches talkies alone, which then drains
            )  # fmt: skip
        log.info("tritonserver started", pid=self._process.pid, grpc=self.url)
        self._hiding = asyncio.create_task(self._hide(self._process.pid), name="hide keys")
        return self._process

    async def _hide(self, pid: int) -> None:
        """Hide the keys among tritonserver's arguments, once it has read them."""
        host, _, port = self.url.rpartition(":")
        while True:
            try:
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
                break
            except OSError:
                await asyncio.sleep(0.05)
        writer.close()
        try:
            arguments.hide(pid, (self.keys.admin, self.keys.inference))
        except ProcessLookupError:
            pass
        except OSError as error:
            log.warning("other users of this machine can read tritonserver's keys in /proc", reason=error.strerror)

    def _bury(self) -> None:
        """Kill what a dead server left in its group, and free its shared memory."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        _free(self._regions)


def _free(regions: str) -> None:
    """Unlink the regions of shared memory whose names begin so."""
    if regions.startswith("talkies-"):
        for region in Path("/dev/shm").glob(f"{glob.escape(regions)}*"):  # noqa: S108
            region.unlink(missing_ok=True)


@contextlib.contextmanager
def _log_file(settings: Settings) -> Iterator[int | None]:
    """Where tritonserver writes; a file that has grown large makes room for a new one."""
    if settings.triton_log == "stderr":
        yield None
        return
    path = _log(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LONG_LOG:
        path.replace(path.with_suffix(".log.old"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _log(settings: Settings) -> Path:
    return settings.data_dir / "run" / "tritonserver.log"
