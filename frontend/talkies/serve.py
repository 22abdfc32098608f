"""`talkies serve`: prepare environments and weights, start tritonserver, answer HTTP until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import shutil
import signal
import socket
from collections.abc import Callable, Iterable, Iterator

import structlog
import uvicorn
from filelock import FileLock, Timeout

from talkies import environments, logs
from talkies.app import create_app
from talkies.downloads import Downloads
from talkies.environments import TRITONSERVER
from talkies.errors import StartupError, TalkiesError
from talkies.metrics import Metrics
from talkies.registry import Registry
from talkies.render import AUDIO_CHUNKS, render
from talkies.residency import Residency
from talkies.server import EmbeddedServer
from talkies.settings import Settings
from talkies.sources import Sources
from talkies.staging import Staging
from talkies.synthesize import Synthesizer
from talkies.transcribe import Transcriber
from talkies.triton import Triton

log = structlog.get_logger("talkies.serve")

_START_TIMEOUT = 60.0
_ABANDONED = 3600.0
"""Seconds after which nobody is still sending a staged file, where another talkies may share the data directory."""


def serve(settings: Settings, registry: Registry, announce: Callable[[], None]) -> None:
    """Run until SIGTERM or SIGINT; `announce` is called once requests are answered.

    Raises StartupError when a port is taken, another talkies holds the data directory, or tritonserver does not start.
    """
    run = settings.data_dir / "run"
    for folder in (run, settings.files, settings.uploads):
        folder.mkdir(parents=True, exist_ok=True)
    logs.configure(settings)
    staging = Staging(settings.files, settings.max_upload_bytes)
    _warn_of_strangers(settings)
    with contextlib.ExitStack() as stack:
        _check_ports(settings)
        if not settings.triton_url:
            try:
                stack.enter_context(FileLock(run / "serve.lock", timeout=0))
            except Timeout:
                raise StartupError(
                    f"Another talkies serves from {settings.data_dir}: stop it or set TALKIES_DATA_DIR."
                ) from None
            if missing := [f for f in (TRITONSERVER, AUDIO_CHUNKS) if not environments.is_built(settings, f)]:
                raise StartupError(f"Run `talkies env build {' '.join(missing)}` first.")
            shutil.rmtree(settings.uploads)  # of requests that an earlier, killed process had
            settings.uploads.mkdir()
            staging.discard_leftovers()
            render(settings, registry)
        else:
            staging.discard_leftovers(min_age=_ABANDONED)
        stack.enter_context(contextlib.suppress(asyncio.CancelledError))  # SIGTERM during the start
        asyncio.run(_serve(settings, registry, staging, announce))


def families(registry: Registry, slugs: Iterable[str]) -> list[str]:
    """The environments that serving these slugs takes."""
    engines = sorted({registry.find(slug).environment for slug in slugs})
    return [TRITONSERVER, AUDIO_CHUNKS, *engines]


async def _serve(settings: Settings, registry: Registry, staging: Staging, announce: Callable[[], None]) -> None:
    if task := asyncio.current_task():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # until uvicorn takes over
    async with contextlib.AsyncExitStack() as stack:
        embedded = None
        url, key = settings.triton_url, settings.triton_admin_key.get_secret_value()
        if not url:
            embedded = EmbeddedServer(settings)
            stack.push_async_callback(embedded.stop)
            await embedded.start()
            url, key = embedded.url, embedded.admin_key
        triton = Triton(url, key)
        stack.push_async_callback(triton.close)
        metrics = Metrics(registry)
        residency = Residency(settings, registry, triton, metrics, embedded)
        try:
            await triton.wait_ready(_START_TIMEOUT)
            for slug in settings.preload:
                async with residency.use(registry.find(slug)):
                    pass
        except TalkiesError as error:
            raise StartupError(error.message) from None
        if settings.model_ttl:
            sweep = asyncio.create_task(residency.sweep(), name="sweep")
            stack.callback(sweep.cancel)
        app = create_app(
            settings,
            registry,
            Transcriber(settings, triton, residency),
            Synthesizer(settings, triton, residency),
            residency,
            metrics,
            staging,
            Sources(staging, Downloads(settings, staging)),
            device=settings.resolved_device,
        )
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=max(1, int(settings.drain_timeout)),
            server_header=False,
        )
        await _Server(config, announce).serve()


def _warn_of_strangers(settings: Settings) -> None:
    """Say what everyone on the network may do, if talkies can be reached from there."""
    try:
        local = ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        local = settings.host == "localhost"
    if local:
        return
    if not settings.auth_token:
        log.warning("no TALKIES_AUTH_TOKEN is set: everyone who reaches this address may use it", host=settings.host)
    if not settings.triton_url:
        log.warning("the gRPC and metrics ports ask for no token: shut them off from strangers", host=settings.host)


class _Server(uvicorn.Server):
    """uvicorn that says when it is up and ends with status 0 on SIGTERM and SIGINT."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def _check_ports(settings: Settings) -> None:
    ports = {"PORT": settings.port}
    if not settings.triton_url:
        ports |= {"GRPC_PORT": settings.grpc_port, "METRICS_PORT": settings.metrics_port}
    for name, port in ports.items():
        try:
            socket.create_server((settings.host, port)).close()
        except OSError as error:
            raise StartupError(f"TALKIES_{name}={port} on {settings.host}: {error.strerror}.") from None
