"""Containers of the image, built and run by buildah and podman: tools that need no daemon."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from harness.server import Service, free_ports

TOOLS = ("buildah", "podman", "runc", "mmdebstrap")
_CONFIGURATION = """\
# runc, since crun knows no machine with both versions of control groups; limits as they are, which not all may raise.
[containers]
default_ulimits = []
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_STEP, _BUILD = 120, 1500
_START = 180.0
"""Hang limits, in seconds."""


class Unusable(Exception):
    """Containers cannot be had on this machine; the message says why."""


@dataclass(frozen=True)
class Container(Service):
    """One that runs, with its HTTP port published."""

    name: str
    engine: Engine
    started: float
    """Seconds until it was ready."""

    def run(self, *command: str) -> str:
        """What a command inside of it writes."""
        return self.engine("podman", "exec", self.name, *command)

    def logs(self) -> str:
        return self.engine("podman", "logs", self.name, stderr=subprocess.STDOUT)


class Engine:
    """buildah and podman, with the settings that work without systemd."""

    def __init__(self, folder: Path) -> None:
        """Writes what it needs in `folder`. Raises Unusable."""
        self._folder = folder
        configuration = folder / "containers.conf"
        configuration.write_text(_CONFIGURATION)
        self.environment = {**os.environ, "CONTAINERS_CONF": str(configuration)}
        if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
            raise Unusable(f"{', '.join(missing)} cannot be installed here")

    def __call__(self, *command: str, timeout: float = _STEP, stderr: int = subprocess.PIPE) -> str:
        """The command's output. Raises AssertionError with its last words."""
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=timeout, check=False,
            env=self.environment,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{(done.stderr or '')[-3000:]}"
        return done.stdout

    def base(self, script: Path, tag: str) -> None:
        """Make the base image with that script unless it is there, and try whether containers run at all.

        Raises Unusable.
        """
        try:
            if not self("podman", "images", "--quiet", tag).strip():
                self(str(script), tag, timeout=600)
            self("podman", "run", "--rm", "--read-only", "--cap-drop", "ALL", "--publish", "127.0.0.1::80", tag, "true")
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            raise Unusable(f"containers do not run here: {str(error)[-500:]}") from None

    def build(self, project: Path, tag: str, **arguments: str) -> None:
        """Build the project's Dockerfile."""
        given = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
        # Only docker's format keeps a HEALTHCHECK.
        self(
            "buildah", "bud", "--format", "docker", "--isolation", "chroot", "--layers", *given, "--tag", tag,
            "--ignorefile", str(project / "docker" / "Dockerfile.dockerignore"),
            "--file", str(project / "docker" / "Dockerfile"), str(project),
            timeout=_BUILD,
        )  # fmt: skip

    @contextlib.contextmanager
    def service(self, address: str) -> Iterator[None]:
        """podman's service at that address, which speaks docker's protocol."""
        command = ["podman", "system", "service", "--time=0", address]
        process = subprocess.Popen(command, env=self.environment)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)

    def size(self, tag: str) -> int:
        """Bytes of the image, uncompressed."""
        return int(self("podman", "image", "inspect", "--format", "{{.Size}}", tag))

    @contextlib.contextmanager
    def running(self, image: str, *options: str, command: tuple[str, ...] = ()) -> Iterator[Container]:
        """A container of that image with these options of `podman run`, once it is ready."""
        [port] = free_ports(1)
        name = f"talkies-test-{os.getpid()}-{port}"
        published = ("--publish", f"127.0.0.1:{port}:8000")
        self("podman", "run", "--detach", "--name", name, *published, *options, image, *command)
        try:
            url = f"http://127.0.0.1:{port}"
            try:
                seconds = wait_ready(url)
            except TimeoutError:
                said = self("podman", "logs", name, stderr=subprocess.STDOUT)
                raise AssertionError(f"not ready: {said[-3000:]}") from None
            yield Container(url, "", name, self, seconds)
        finally:
            self("podman", "rm", "--force", "--volumes", "--time", "5", name)


def wait_ready(url: str) -> float:
    """Seconds until the server there was ready. Raises TimeoutError."""
    started = time.monotonic()
    while time.monotonic() - started < _START:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=5).is_success:
                return time.monotonic() - started
        time.sleep(0.1)
    raise TimeoutError
