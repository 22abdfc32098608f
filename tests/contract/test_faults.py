"""What breaks and comes back: killed engines, a killed tritonserver, signals."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from talkies.setup import manifest

from harness import audio
from harness.processes import is_alive
from harness.server import ASR, TTS, Server, default_home, free_ports, wait_until
from harness.speech import COUNTING

LONG_TEXT = COUNTING * 2


def test_killed_tts_engine_is_replaced(server: Server) -> None:
    assert server.speak().status_code == 200
    os.kill(server.engine_pid(TTS), signal.SIGKILL)
    assert server.speak().status_code == 200


@pytest.mark.parametrize(("number", "way"), [(1, signal.SIGKILL), (2, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_a_dead_first_step_is_replaced_and_nothing_else(
    server: Server, jfk: Path, number: int, way: signal.Signals
) -> None:
    """Processes of `audio_chunks`, killed or stopped while nobody asks; then clips at once."""
    assert server.transcribe(jfk).status_code == 200
    wait_until(lambda: len(server.pids("audio_chunks")) == 2, 60, "both processes are there")
    engine, before = server.engine_pid(f"{ASR}.engine"), set(server.pids("audio_chunks"))
    for pid in list(before)[:number]:
        os.kill(pid, way)
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(server.transcribe, [jfk] * 4))
    assert [answer.status_code for answer in answers] == [200] * 4
    wait_until(lambda: len(set(server.pids("audio_chunks")) - before) == 2, 60, "two new processes")
    assert server.engine_pid(f"{ASR}.engine") == engine
    with server.http() as http:
        assert http.get("/healthz").json()["ok"] is True


def test_a_first_step_that_dies_under_load_costs_nothing(server: Server, jfk: Path) -> None:
    long = audio.encode(np.tile(audio.decode(jfk), 12), 16_000, "flac", "flac")
    assert server.transcribe(jfk).status_code == 200
    engine = server.engine_pid(f"{ASR}.engine")
    sounds: list[Path | bytes] = [long, *[jfk] * 5]
    with ThreadPoolExecutor() as pool:
        requests = [pool.submit(server.transcribe, sound) for sound in sounds]
        wait_until(lambda: server.active() >= 1, 60, "requests are running")
        os.kill(server.engine_pid("audio_chunks"), signal.SIGKILL)
        assert [request.result(300).status_code for request in requests] == [200] * 6
    assert server.engine_pid(f"{ASR}.engine") == engine


def test_a_killed_engine_costs_nobody_an_answer(server: Server, jfk: Path) -> None:
    """Neither the clip nor the long file that ran in it."""
    long = audio.encode(np.tile(audio.decode(jfk), 12), 16_000, "flac", "flac")
    assert server.transcribe(jfk).status_code == 200
    with ThreadPoolExecutor() as pool:
        requests = [pool.submit(server.transcribe, sound) for sound in (long, jfk)]
        wait_until(lambda: server.active() == 2, 60, "both requests are running")
        os.kill(server.engine_pid(f"{ASR}.engine"), signal.SIGKILL)
        assert [request.result(300).status_code for request in requests] == [200, 200]


def test_a_hung_tritonserver_is_replaced(start_server: Callable[..., Server], jfk: Path) -> None:
    server = start_server(HANG_TIMEOUT="3")
    assert server.transcribe(jfk).status_code == 200
    hung = server.triton_pid()
    os.kill(hung, signal.SIGSTOP)
    with server.http() as http:
        health = http.get("/healthz").json()
        assert (health["ok"], health["problem"]) == (False, "tritonserver does not answer")
        wait_until(lambda: not is_alive(hung), 60, "the hung tritonserver is gone")
        assert server.transcribe(jfk).status_code == 200
        assert server.triton_pid() != hung
        health = http.get("/healthz").json()
        assert health["ok"] and "problem" not in health


def test_killed_tritonserver_comes_back(server: Server, jfk: Path) -> None:
    assert server.transcribe(jfk).status_code == 200
    triton, engine = server.triton_pid(), server.engine_pid(f"{ASR}.engine")
    with ThreadPoolExecutor() as pool:
        speech = pool.submit(server.speak, LONG_TEXT)
        wait_until(lambda: server.active() == 1, 30, "speech is running")
        os.kill(triton, signal.SIGKILL)
        wait_until(lambda: server.transcribe(jfk).status_code == 200, 60, "transcription works again")
        assert speech.result(120).status_code == 200
    assert not is_alive(engine)
    assert server.triton_pid() != triton


def test_sigterm_lets_a_request_finish(start_server: Callable[..., Server]) -> None:
    server = start_server(PRELOAD=TTS)
    with ThreadPoolExecutor() as pool:
        request = pool.submit(server.speak, LONG_TEXT)
        wait_until(lambda: server.active() == 1, 60, "the request is running")
        children = server.processes()
        server.process.send_signal(signal.SIGTERM)
        assert request.result(120).status_code == 200
    assert server.process.wait(30) == 0
    assert not [pid for pid in children if is_alive(pid)]


def test_nothing_outlives_a_killed_talkies(start_server: Callable[..., Server]) -> None:
    server = start_server(PRELOAD=TTS)
    children = server.processes()
    assert len(children) >= 3
    server.process.kill()
    wait_until(lambda: not any(map(is_alive, children)), 60, "every child process has ended")


def test_an_engine_that_is_stuck_does_not_outlive_a_killed_talkies(start_server: Callable[..., Server]) -> None:
    server = start_server(PRELOAD=TTS)
    children = server.processes()
    stuck = server.pids("audio_chunks")
    for pid in stuck:
        os.kill(pid, signal.SIGSTOP)
    server.process.kill()
    wait_until(lambda: not any(map(is_alive, children)), 60, "every child process has ended")


def test_the_next_start_frees_what_a_killed_talkies_has_left(start_server: Callable[..., Server], jfk: Path) -> None:
    server = start_server()
    assert server.transcribe(jfk).status_code == 200
    children = server.processes()
    server.process.kill()
    wait_until(lambda: not any(map(is_alive, children)), 60, "every child process has ended")

    def left() -> list[Path]:
        return list(Path("/dev/shm").glob(f"talkies-{server.process.pid}-*"))  # noqa: S108

    # Mostly there are some, but now and then the engines' processes have the time to take them with them.
    Path(f"/dev/shm/{(server.data / 'run' / 'regions').read_text()}left").touch()  # noqa: S108
    assert left()
    (server.data / "uploads" / "half").write_bytes(b"x")
    again = start_server()
    assert left() == [] == list((again.data / "uploads").iterdir())
    assert again.transcribe(jfk).status_code == 200


def test_broken_weights_are_a_503(start_server: Callable[..., Server], tmp_path: Path, jfk: Path) -> None:
    models = tmp_path / "data" / "models" / ASR
    models.mkdir(parents=True)
    for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
        (models / name).write_bytes(b"{}")
    server = start_server()
    response = server.transcribe(jfk)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "model_unavailable"
    assert "Traceback" not in response.text and str(tmp_path) not in response.text
    with server.http() as http:
        assert http.get("/healthz").json()["ok"] is True


def test_rotten_weights_do_not_speak(start_server: Callable[..., Server], tmp_path: Path, jfk: Path) -> None:
    """One byte of a download is another; it is found before the model serves, and by the commands."""
    download = tmp_path / "data" / "models" / ".store" / "whole"
    shutil.copytree(default_home() / "models" / ASR, download)
    manifest.write(download)
    (download.parents[1] / ASR).symlink_to(".store/whole")
    server = start_server()
    assert server.transcribe(jfk).status_code == 200
    server.unload()
    with (download / "model.bin").open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))
    response = server.transcribe(jfk)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "model_unavailable")
    assert "damaged (model.bin)" in response.json()["detail"] and "pull --verify" in response.json()["detail"]
    done = subprocess.run(
        [sys.executable, "-m", "talkies", "doctor"],
        env={
            **os.environ,
            "TALKIES_DATA_DIR": str(server.data),
            "TALKIES_ENVS_DIR": str(default_home() / "envs"),
            "TALKIES_ENABLED_MODELS": ASR,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    wrong = [line for line in done.stdout.splitlines() if line.startswith("wrong")]
    assert len(wrong) == 1 and f"weights of {ASR}: damaged (model.bin)" in wrong[0], done.stdout


def test_load_deadline(start_server: Callable[..., Server]) -> None:
    server = start_server(LOAD_TIMEOUT="0.05")
    response = server.speak()
    assert response.status_code == 503
    assert "did not load" in response.json()["detail"]
    wait_until(lambda: not server.pids(TTS), 60, "nothing is left of the load")
    assert server.loaded() == {}


@pytest.mark.parametrize("variable", ["PORT", "GRPC_PORT"])
def test_taken_port_is_one_sentence(server: Server, tmp_path: Path, variable: str) -> None:
    ports = dict(zip(("PORT", "GRPC_PORT", "METRICS_PORT"), map(str, free_ports(3)), strict=True))
    ports[variable] = str(server.port)
    done = subprocess.run(
        [sys.executable, "-m", "talkies", "serve", "--no-prepare"],
        env={**os.environ, "TALKIES_DATA_DIR": str(tmp_path), **{f"TALKIES_{k}": v for k, v in ports.items()}},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"TALKIES_{variable}={server.port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("folder", ["/dev/null/data", "/proc/none/data", "/sys/none"])
@pytest.mark.parametrize("command", [["serve", "--no-prepare"], ["pull", ASR], ["env", "build", "audio_chunks"]])
def test_a_data_directory_that_takes_nothing_is_one_sentence(folder: str, command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "talkies", *command],
        env={**os.environ, "TALKIES_DATA_DIR": folder, "TALKIES_PORT": str(free_ports(1)[0])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert folder.rpartition("/")[0] in done.stderr and "TALKIES_DATA_DIR" in done.stderr, done.stderr


def test_a_full_disk(server: Server, jfk: Path) -> None:
    """No file may grow above a limit: what a full disk does to a write, without one."""
    talkies = psutil.Process(server.process.pid)
    before = talkies.rlimit(resource.RLIMIT_FSIZE)
    limit = (server.data / "talkies.log").stat().st_size + (1 << 17)
    content = bytes(2 * limit)
    with server.http() as http:
        before_it = http.get("/v1/files").json()
        talkies.rlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            answers = [server.transcribe(content), http.put("/v1/files/a/b.flac", content=content)]
        finally:
            talkies.rlimit(resource.RLIMIT_FSIZE, before)
        assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [
            (507, "out_of_space")
        ] * 2
        assert http.get("/v1/files").json() == before_it
    assert list((server.data / "uploads").iterdir()) == []
    assert "cannot write" in server.log()
    assert server.transcribe(jfk).status_code == 200
