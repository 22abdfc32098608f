"""How tritonserver is started: one list of its flags, for `talkies serve`, which watches it, and `talkies triton`."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from talkies_kit import QUIET
from talkies_kit.wire import AUDIO_CHUNKS, PATH_KEY_VARIABLE

from talkies import tracing
from talkies.engines import gpus
from talkies.engines.triton import ADMIN_KEY, INFERENCE_KEY, Keys
from talkies.errors import StartupError
from talkies.settings import Settings, bracketed
from talkies.setup import environments
from talkies.setup.environments import TRITONSERVER

_RESTRICTED = ("model-repository", "shared-memory", "trace", "logging")
"""The parts of Triton's gRPC API that only the facade may call; inference may have a key of its own."""
_DRAIN = 30
"""Seconds in which the requests of a tritonserver end that is stopped by itself; an embedded one has none by then."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, and the whole environment that it runs in."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def command(settings: Settings, keys: Keys, backends: Path, *, regions: str = "", drain: int) -> Command:
    """tritonserver over the rendered repository: the program that TALKIES_TRITONSERVER names, else the wheel's, else
    that of the PATH.

    The wheel's backend is put together in the folder `backends`; the names of its regions of shared memory begin with
    `regions`. Raises StartupError when there is no such program.
    """
    program, own, libraries = _program(settings, backends)
    flags = [
        *own,
        f"--model-repository={settings.repository}",
        *([f"--backend-config=python,shm-region-prefix-name={regions}"] if regions else []),
        "--model-control-mode=explicit",
        f"--load-model={AUDIO_CHUNKS}",
        "--strict-readiness=false",
        "--disable-auto-complete-config",
        f"--exit-timeout-secs={drain}",
        "--allow-http=false",
        f"--grpc-address={bracketed(settings.grpc_host)}",
        f"--grpc-port={settings.grpc_port}",
        f"--grpc-restricted-protocol={','.join(_RESTRICTED)}:{ADMIN_KEY}={keys.admin}",
        *([f"--grpc-restricted-protocol=inference:{INFERENCE_KEY}={keys.inference}"] if keys.inference else []),
        # libevhtp, which serves its metrics, takes any other address for an IPv4 one: ::1 for 255.255.255.255.
        f"--metrics-address={'ipv6:' if ':' in settings.metrics_address else ''}{settings.metrics_address}",
        f"--metrics-port={settings.metrics_port}",
        "--pinned-memory-pool-byte-size=0",  # our tensors are in ordinary memory: 256 MB that nobody uses
        *_traces(),
        "--log-verbose=0",
    ]
    environment = {
        **os.environ,
        **QUIET,
        **gpus.environment(settings.data_dir),
        PATH_KEY_VARIABLE: keys.path,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if libraries:
        environment["LD_LIBRARY_PATH"] = str(libraries)
    return Command((str(program), *flags), environment)


def run(settings: Settings) -> None:
    """Become tritonserver, for a facade elsewhere. Raises StartupError for a missing key or program."""
    secrets = {"TRITON_ADMIN_KEY": settings.triton_admin_key, "PATH_KEY": settings.path_key}
    if missing := [f"TALKIES_{name}" for name, secret in secrets.items() if not secret.get_secret_value()]:
        raise StartupError(f"Set {' and '.join(missing)}, and the same for `talkies serve`, which needs them to ask.")
    keys = Keys(
        settings.triton_admin_key.get_secret_value(),
        settings.grpc_key.get_secret_value(),
        settings.path_key.get_secret_value(),
    )
    made = command(settings, keys, Path(tempfile.mkdtemp(prefix="talkies-")), drain=_DRAIN)
    os.execve(made.arguments[0], made.arguments, made.environment)  # noqa: S606


def _program(settings: Settings, backends: Path) -> tuple[Path, list[str], Path | None]:
    """tritonserver, the flags that it needs to find its backend, and the folder of its libraries."""
    if settings.tritonserver:
        if not os.access(settings.tritonserver, os.X_OK):
            raise StartupError(f"TALKIES_TRITONSERVER: {settings.tritonserver} is no program.")
        return settings.tritonserver, [], None
    if environments.is_built(settings, TRITONSERVER):
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = environments.folder(settings, TRITONSERVER) / "lib" / version / "site-packages"
        home = site / "pytriton" / "tritonserver"
        flags = [f"--backend-directory={_assemble_backend(home, backends)}"]
        return home / "bin" / "tritonserver", flags, site / "nvidia_pytriton.libs"
    if found := shutil.which("tritonserver"):
        return Path(found), [], None
    raise StartupError(
        "There is no tritonserver: run `talkies env build tritonserver`, or let TALKIES_TRITONSERVER name one."
    )


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


def _traces() -> list[str]:
    if not (url := tracing.collector()):
        return []
    values = ("mode=opentelemetry", f"opentelemetry,url={url}", "rate=1", "level=TIMESTAMPS")
    return [f"--trace-config={value}" for value in values]
