"""`talkies serve`: prepare environments and weights, start tritonserver, answer HTTP until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

import structlog
import uvicorn
from filelock import FileLock, Timeout
from talkies_kit.wire import AUDIO_CHUNKS

from talkies import logs, tracing
from talkies.api.app import create_app
from talkies.api.connections import Connection, Connections, raise_descriptor_limit
from talkies.api.quotas import Quotas
from talkies.api.services import Services
from talkies.asr.transcriber import Transcriber
from talkies.engines.process import EmbeddedServer
from talkies.engines.repository import render
from talkies.engines.residency import Residency
from talkies.engines.triton import Keys, Triton
from talkies.engines.watch import Watch
from talkies.errors import StartupError, TalkiesError, Unavailable
from talkies.files.downloads import Downloads
from talkies.files.locate import Sources
from talkies.files.retention import Retention
from talkies.files.staging import Staging, discard_old
from talkies.metrics import Metrics
from talkies.registry import Registry
from talkies.settings import Settings
from talkies.setup import environments
from talkies.setup.environments import TRITONSERVER
from talkies.tasks import must_run
from talkies.tokens import Keyring
from talkies.tts.synthesizer import Synthesizer
from talkies.tts.voices import Voices

log = structlog.get_logger("talkies.serve")

_START_TIMEOUT = 60.0
_CONTAINER = ("/.dockerenv", "/run/.containerenv")
"""Files that the makers of containers put there."""
_CUT_OFF = 10.0
"""Seconds in which requests that are cut off end, before they are no longer waited for."""
_KEEP_ALIVE = 75
"""Seconds for which an idle connection stays open: longer than in the pools of clients and proxies, which would send a
request into a connection that is being closed."""
_ABANDONED = 3600.0
"""Seconds after which nobody is still sending a file, where another talkies may share the data directory."""


def serve(settings: Settings, registry: Registry, announce: Callable[[], None]) -> None:
    """Run until SIGTERM or SIGINT; `announce` is called once requests are answered.

    Raises StartupError when a port is taken, another talkies holds the data directory, or tritonserver does not start.
    """
    raise_descriptor_limit()
    run = settings.data_dir / "run"
    for folder in (run, settings.files, settings.uploads):
        folder.mkdir(parents=True, exist_ok=True)
    logs.configure(settings)
    staging = Staging(settings.files, settings.max_upload_bytes, settings.files_max_bytes)
    _warn_of_strangers(settings)
    _warn_of_root()
    with contextlib.ExitStack() as stack:
        check_ports(settings)
        stack.callback(tracing.configure())
        if not settings.triton_url:
            try:
                stack.enter_context(FileLock(run / "serve.lock", timeout=0))
            except Timeout:
                raise StartupError(
                    f"Another talkies serves from {settings.data_dir}: stop it or set TALKIES_DATA_DIR."
                ) from None
            if missing := [f for f in families(settings, registry) if not environments.is_built(settings, f)]:
                raise StartupError(f"Run `talkies env build {' '.join(missing)}` first.")
            shutil.rmtree(settings.uploads)  # of requests that an earlier, killed process had
            settings.uploads.mkdir()
            staging.discard_leftovers()
            render(settings, registry)
        else:
            staging.discard_leftovers(_ABANDONED)
            discard_old(settings.uploads, _ABANDONED + settings.request_timeout)
        stack.enter_context(contextlib.suppress(asyncio.CancelledError))  # SIGTERM during the start
        asyncio.run(_serve(settings, registry, staging, announce))


def families(settings: Settings, registry: Registry, slugs: Iterable[str] = ()) -> list[str]:
    """The environments that serving these slugs takes."""
    engines = sorted({registry.find(slug).executor.environment for slug in slugs})
    return [*([] if settings.tritonserver else [TRITONSERVER]), AUDIO_CHUNKS, *engines]


async def _serve(settings: Settings, registry: Registry, staging: Staging, announce: Callable[[], None]) -> None:
    if task := asyncio.current_task():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # until uvicorn takes over
    async with contextlib.AsyncExitStack() as stack:
        embedded = None
        secrets = settings.triton_admin_key, settings.grpc_key, settings.path_key
        url, keys = settings.triton_url, Keys(*(secret.get_secret_value() for secret in secrets))
        hurry = asyncio.Event()
        if not url:
            embedded = EmbeddedServer(settings)
            stack.push_async_callback(embedded.stop, hurry)
            await embedded.start()
            url, keys = embedded.url, embedded.keys
        triton = Triton(url, keys)
        stack.push_async_callback(triton.close)
        metrics = Metrics(registry)
        residency = Residency(settings, registry, triton, metrics, embedded)
        try:
            await triton.wait_ready(_START_TIMEOUT)
            for slug in settings.preload:
                async with residency.use(registry.find(slug)):
                    pass
        except TalkiesError as error:
            reason = f" {embedded.last_words()}" if embedded else ""
            raise StartupError(f"{error.message}{reason}") from None
        watch = Watch(settings, triton, residency, embedded)
        stack.callback(must_run(asyncio.create_task(watch.mend(), name="mend")).cancel)
        if settings.model_ttl:
            stack.callback(must_run(asyncio.create_task(watch.sweep(), name="sweep")).cancel)
        retention = Retention(
            staging,
            ttl=settings.files_ttl,
            max_bytes=settings.files_max_bytes,
            interval=settings.sweeper_interval,
        )
        if settings.files_ttl or settings.files_max_bytes:
            stack.callback(must_run(asyncio.create_task(retention.run(), name="retention")).cancel)
        quotas = Quotas(settings.data_dir / "run" / "usage.json")
        stack.callback(quotas.save)
        keyring = None
        if settings.auth_token or settings.auth_file:
            keyring = Keyring((token.get_secret_value() for token in settings.auth_token), settings.auth_file)
            stack.callback(must_run(asyncio.create_task(quotas.keep(), name="quotas")).cancel)
        draining = asyncio.Event()
        services = Services(
            settings=settings,
            registry=registry,
            metrics=metrics,
            residency=residency,
            transcriber=Transcriber(settings, triton, residency),
            synthesizer=Synthesizer(settings, triton, residency),
            voices=Voices(settings, registry),
            staging=staging,
            sources=Sources(staging, Downloads(settings, staging), retention),
            quotas=quotas,
            draining=draining,
            keyring=keyring,
        )
        config = uvicorn.Config(
            create_app(services),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=int(settings.drain_timeout + _CUT_OFF),
            server_header=False,
            http=Connection,
            timeout_keep_alive=_KEEP_ALIVE,
            ws="none",
        )
        await _Server(config, announce, settings, draining, hurry).serve()


def _warn_of_strangers(settings: Settings) -> None:
    """Say what everyone on the network may do, if talkies can be reached from there."""
    if not (_is_loopback(settings.host) or settings.auth_token or settings.auth_file):
        log.warning("no TALKIES_AUTH_TOKEN is set: everyone who reaches this address may use it", host=settings.host)
    if not (settings.triton_url or _is_loopback(settings.grpc_host) or settings.grpc_key.get_secret_value()):
        log.warning("no TALKIES_GRPC_KEY is set: everyone who reaches this address may infer", host=settings.grpc_host)


def _warn_of_root() -> None:
    if os.geteuid() == 0 and not any(map(os.path.exists, _CONTAINER)):
        log.warning("talkies runs as root: give it a user of its own, for whoever breaks into an engine is that user")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Server(uvicorn.Server):
    """uvicorn that says when it is up and ends with status 0 on SIGTERM and SIGINT; on a second one at once."""

    def __init__(
        self,
        config: uvicorn.Config,
        announce: Callable[[], None],
        settings: Settings,
        draining: asyncio.Event,
        hurry: asyncio.Event,
    ) -> None:
        """Sets `draining` at the first signal and `hurry` at the second."""
        super().__init__(config)
        self._announce = announce
        self._delay, self._drain = settings.drain_delay, settings.drain_timeout
        self._draining = draining
        self._hurry = hurry
        self._connections = Connections(self.server_state.connections)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        end = asyncio.get_running_loop().call_later(self._drain, self._connections.end, _stopping())
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn would leave the application as it is, and its task to be cancelled
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.lifespan.shutdown(), 1)
        end.cancel()
        self._connections.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._draining.is_set():
            self.should_exit = self.force_exit = True
            self._hurry.set()
            self._connections.end(_stopping(), at_once=True)
            return
        self._draining.set()
        if self._delay:  # balancers ask for readiness every few seconds
            asyncio.get_running_loop().call_later(self._delay, self._close)
        else:
            self._close()

    def _close(self) -> None:
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def _stopping() -> Unavailable:
    return Unavailable("talkies stops, and this request would have taken longer; try again in a moment.")


def check_ports(settings: Settings) -> None:
    """Raises StartupError, which names the setting, for a port that cannot be listened on."""
    ports = {"PORT": (settings.host, settings.port)}
    if not settings.triton_url:
        ports["GRPC_PORT"] = settings.grpc_host, settings.grpc_port
        ports["METRICS_PORT"] = settings.metrics_address, settings.metrics_port
    for name, (host, port) in ports.items():
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            socket.create_server((host, port), family=family).close()
        except OSError as error:
            raise StartupError(f"TALKIES_{name}={port} on {host}: {error.strerror}.") from None
