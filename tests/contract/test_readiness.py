"""What a balancer and a supervisor of containers see of the running server."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import httpx

from harness.server import ASR, TTS, Server, wait_until
from harness.speech import COUNTING


def ready(server: Server, model: str = "") -> int:
    with server.http() as http:
        return http.get("/readyz", params={"model": model} if model else {}).status_code


def test_ready_for_a_model_is_having_it_in_memory(pooled: Callable[..., Server], jfk: Path) -> None:
    server = pooled(AUTH_TOKEN="")
    server.unload()
    assert (ready(server), ready(server, ASR), ready(server, TTS)) == (200, 503, 503)
    assert server.transcribe(jfk).status_code == 200
    assert (ready(server, ASR), ready(server, "whisper-1"), ready(server, TTS)) == (200, 200, 503)
    assert server.speak().status_code == 200  # evicts the other
    assert (ready(server, ASR), ready(server, TTS), ready(server, "nonsense")) == (503, 200, 404)


def test_not_ready_while_tritonserver_is_away(start_server: Callable[..., Server]) -> None:
    server = start_server(AUTH_TOKEN="secret", TRITON_LOG="stderr")
    assert ready(server) == 200  # for everyone
    os.kill(server.triton_pid(), signal.SIGKILL)
    wait_until(lambda: ready(server) == 503, 60, "it says so")
    wait_until(lambda: ready(server) == 200, 60, "it is mended")
    assert server.log().count("Started GRPCInferenceService at") == 2  # tritonserver's own words
    assert not (server.data / "run" / "tritonserver.log").exists()


def test_who_stops_says_so_before_the_port_closes(start_server: Callable[..., Server]) -> None:
    server = start_server(DRAIN_DELAY="20", DRAIN_TIMEOUT="60")
    assert server.speak().status_code == 200
    answers: list[httpx.Response] = []
    running = threading.Thread(target=lambda: answers.append(server.speak(COUNTING)))
    running.start()
    wait_until(lambda: server.active() == 1, 60, "it is at work")
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: ready(server) == 503, 15, "it says that it stops")
    assert server.speak().status_code == 200  # of a balancer that has not asked yet
    running.join(60)
    assert answers[0].status_code == 200
    assert server.process.wait(60) == 0
