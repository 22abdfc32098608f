"""Both compose files, brought up by the real Docker Compose over podman's service."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from talkies.settings import PROJECT

from harness.containers import Engine, wait_ready
from harness.server import JFK, JFK_WORDS, Service, free_ports
from harness.words import normalize

_UP = 300
_WEIGHTS = """\
services:
{services}
"""
_SERVICE = """\
  {name}:
    environment: {{TALKIES_WEIGHTS_DIR: /weights}}
    volumes: ["{weights}:/weights:ro"]
"""
Up = Callable[..., AbstractContextManager[Service]]


@pytest.fixture
def compose(
    engine: Engine, image: str, weights: Path, socket: str, tmp_path: Path, client_python: Callable[..., Path]
) -> Up:
    program = client_python("compose").with_name("docker-compose")

    @contextmanager
    def up(file: str, *services: str) -> Iterator[Service]:
        """The file's services, to each of which the folder of weights is given."""
        [http, metrics] = free_ports(2)
        override = tmp_path / "weights.yaml"
        parts = "".join(_SERVICE.format(name=name, weights=weights) for name in services)
        override.write_text(_WEIGHTS.format(services=parts))
        project = f"talkies-test-{os.getpid()}-{http}"
        files = ["-f", str(PROJECT / "docker" / file), "-f", str(override)]
        command = [str(program), "-p", project, *files]
        environment = {
            **engine.environment,
            "DOCKER_HOST": socket,
            "TALKIES_IMAGE": image,
            "TALKIES_HTTP": f"127.0.0.1:{http}",
            "TALKIES_METRICS": f"127.0.0.1:{metrics}",
            "TALKIES_TRITON_ADMIN_KEY": "a-key-of-this-test",
        }

        def run(*words: str) -> str:
            done = subprocess.run(
                [*command, *words], capture_output=True, text=True, timeout=_UP, check=False, env=environment
            )
            return f"{done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"

        try:
            said = run("up", "--detach", "--no-build")
            assert said.startswith("0\n"), said
            try:
                wait_ready(f"http://127.0.0.1:{http}")
            except TimeoutError:
                pytest.fail(run("logs"))
            yield Service(f"http://127.0.0.1:{http}", "")
        finally:
            run("down", "--volumes", "--timeout", "10")

    return up


@pytest.mark.parametrize(
    ("file", "services"),
    [("compose.yaml", ("talkies",)), ("compose.triton.yaml", ("render", "triton", "talkies"))],
)
def test_it_serves(compose: Up, file: str, services: tuple[str, ...]) -> None:
    with compose(file, *services) as service:
        answer = service.transcribe(JFK)
        assert answer.status_code == 200 and JFK_WORDS in normalize(answer.json()["text"])
        assert service.speak().status_code == 200
