"""The embedded tritonserver: started, watched, restarted, and gone when talkies is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
import time
from pathlib import Path

import structlog

from talkies import environments
from talkies.environments import TRITONSERVER
from talkies.errors import StartupError
from talkies.render import AUDIO_CHUNKS
from talkies.settings import Settings

log = structlog.get_logger("talkies.server")

_GUARD = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: die with talkies, whatever kills it
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

_RESTRICTED = ("model-repository", "shared-memory", "trace", "logging")
"""The parts of Triton's gRPC API that only the facade may call; asking for inference and metrics stays open."""

_ESTABLISHED = "01"
"""A connection's state in /proc/net/tcp."""

_FIRST_BACKOFF, _LAST_BACKOFF = 0.5, 30.0
_STEADY = 60.0
"""A server that lived this many seconds gets the first backoff again."""


class EmbeddedServer:
    """One tritonserver process group on this machine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.admin_key = settings.triton_admin_key.get_secret_value() or secrets.token_urlsafe(24)
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._shm_prefix = f"talkies-{os.getpid()}-"

    @property
    def url(self) -> str:
        """gRPC address for clients on this machine."""
        host = self._settings.host
        return f"{'127.0.0.1' if host in ('0.0.0.0', '::', '') else host}:{self._settings.grpc_port}"  # noqa: S104

    async def start(self) -> None:
        """Start the process and its watcher. It answers some seconds later: see `Triton.wait_ready`."""
        process = await self._spawn()
        self._watch = asyncio.create_task(self._supervise(process), name="tritonserver-watch")

    async def stop(self) -> None:
        """End the server: SIGTERM, then SIGKILL to whatever is left of its process group."""
        if self._watch:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        process = self._process
        if process and process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), timeout=10)
        self._bury()

    def alive(self, name: str) -> bool:
        """Whether the Triton model has a process."""
        return bool(self._engine_pids(name))

    def kill(self, name: str) -> None:
        """Kill the process of a Triton model that does not end although it was unloaded."""
        for pid in self._engine_pids(name):
            log.warning("killing engine", model=name, pid=pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def cpu_seconds(self, name: str) -> float:
        """Seconds that the Triton model's process has computed so far."""
        ticks = 0
        for pid in self._engine_pids(name):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def has_guests(self) -> bool:
        """Whether others than this process, which has one connection, are connected to the gRPC port."""
        connected = 0
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with contextlib.suppress(OSError):
                for line in Path(table).read_text().splitlines()[1:]:
                    _, local, _, state = line.split()[:4]
                    connected += state == _ESTABLISHED and int(local.rpartition(":")[2], 16) == self._settings.grpc_port
        return connected > 1

    def _engine_pids(self, name: str) -> list[int]:
        found = []
        model = f"/{name}/1/model.py".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if self._process and int(parent) == self._process.pid and state != "Z":
                    command = (folder / "cmdline").read_bytes().split(b"\0")
                    if any(part.endswith(model) for part in command):
                        found.append(int(folder.name))
        return found

    async def _supervise(self, process: asyncio.subprocess.Process) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            started = time.monotonic()
            code = await process.wait()
            self._bury()
            if time.monotonic() - started > _STEADY:
                backoff = _FIRST_BACKOFF
            log.error("tritonserver ended", code=code, restart_in=backoff)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _LAST_BACKOFF)
            process = await self._spawn()

    async def _spawn(self) -> asyncio.subprocess.Process:
        site = _site_packages(self._settings)
        home = site / "pytriton" / "tritonserver"
        binary = home / "bin" / "tritonserver"
        backends = _assemble_backend(home, self._settings.data_dir / "run" / "backends")
        admin = f"admin-key={self.admin_key}"
        command = [
            str(binary),
            f"--model-repository={self._settings.repository}",
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            "--model-control-mode=explicit",
            f"--load-model={AUDIO_CHUNKS}",
            "--strict-readiness=false",
            "--disable-auto-complete-config",
            "--exit-timeout-secs=5",
            "--allow-http=false",
            f"--grpc-address={self._settings.host}",
            f"--grpc-port={self._settings.grpc_port}",
            f"--grpc-restricted-protocol={','.join(_RESTRICTED)}:{admin}",
            f"--metrics-address={self._settings.host}",
            f"--metrics-port={self._settings.metrics_port}",
            "--log-verbose=0",
        ]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-c", _GUARD, str(os.getpid()), *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=_log_file(self._settings),
            env={**os.environ, "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"), "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,  # Ctrl-C in a terminal reaches talkies alone, which then drains
        )  # fmt: skip
        log.info("tritonserver started", pid=self._process.pid, grpc=self.url)
        return self._process

    def _bury(self) -> None:
        """Kill what a dead server left in its group, and free its shared memory."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        for region in Path("/dev/shm").glob(f"{self._shm_prefix}*"):  # noqa: S108
            region.unlink(missing_ok=True)


def _site_packages(settings: Settings) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = settings.envs / TRITONSERVER / "lib" / version / "site-packages"
    if not environments.is_built(settings, TRITONSERVER):
        raise StartupError("The tritonserver environment is missing: run `talkies env build`.")
    return site


def _assemble_backend(home: Path, target: Path) -> Path:
    """A backend folder with the library and the stub of this Python version side by side, as tritonserver wants it."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "python").mkdir(parents=True)
    stub = home / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    for source in [*(home / "backends" / "python").iterdir(), *stub.iterdir()]:
        link = target / "python" / source.name
        # The stub is found through its real path's folder, so the executable is copied and the rest linked.
        if source.name == "triton_python_backend_stub":
            shutil.copy2(source, link)
            link.chmod(0o755)
        else:
            link.symlink_to(source)
    return target


def _log_file(settings: Settings) -> int:
    path = settings.data_dir / "run" / "tritonserver.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
