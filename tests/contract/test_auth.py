"""Who may call the running server: HTTP with and without a token, raw connections, and tritonserver's closed APIs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import tritonclient.grpc as triton
from talkies import tokens
from tritonclient.utils import InferenceServerException

from harness.server import Server, running

TOKENS = "open-sesame, zweites"


@pytest.fixture(scope="module")
def guarded(prepared: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("guarded")
    with running(data, AUTH_TOKEN=TOKENS, CORS_ORIGINS="https://app.example") as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"), ("GET", "/v1/audio/voices"), ("POST", "/v1/audio/transcriptions"), ("POST", "/unload"),
        ("POST", "/v1/audio/translations"), ("POST", "/v1/audio/speech"), ("GET", "/v1/files"), ("PUT", "/v1/files/a"),
        ("GET", "/api/ps"), ("DELETE", "/api/ps/whisper-base"), ("POST", "/v1/mcp"), ("POST", "/v1/mcp/"),
        ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/no/such/path"), ("GET", "//healthz"),
        ("GET", "/healthz/../v1/models"), ("GET", "/healthz%2f..%2fmetrics"),
    ],
)  # fmt: skip
def test_every_route_needs_a_token(guarded: Server, method: str, path: str) -> None:
    with guarded.http() as http:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic open-sesame"}):
            response = http.request(method, path, headers=headers)
            assert response.status_code == 401, path
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.json()["detail"]


@pytest.mark.parametrize("given", ["Bearer open-sesame", "bearer zweites", "BEARER open-sesame"])
def test_each_token_opens(guarded: Server, given: str) -> None:
    with guarded.http(headers={"authorization": given}) as http:
        for path in ("/v1/models", "/api/ps", "/metrics", "/docs"):
            assert http.get(path).status_code == 200
        assert http.get("/no/such/path").status_code == 404


def test_health_and_preflight_need_none(guarded: Server) -> None:
    with guarded.http() as http:
        assert http.get("/healthz").status_code == 200
        asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
        response = http.options(
            "/v1/audio/speech", headers={**asked, "access-control-request-headers": "authorization"}
        )
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == "https://app.example"
        other = http.options("/v1/audio/speech", headers={**asked, "origin": "https://evil.example"})
        assert other.status_code == 400 and "TALKIES_CORS_ORIGINS" in other.json()["error"]["message"]
        assert "access-control-allow-origin" not in other.headers
        refused = http.get("/v1/models", headers={"origin": "https://app.example"})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://app.example")


def test_a_token_that_is_no_ascii_is_refused(guarded: Server) -> None:
    assert _raw(guarded, b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \xff\xc3\xbc\r\n\r\n") == b"401"


def test_openais_client_gets_its_own_error(guarded: Server) -> None:
    for key, refused in (("wrong", True), ("open-sesame", False)):
        with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=key, max_retries=0) as client:
            if refused:
                with pytest.raises(openai.AuthenticationError, match="Bearer"):
                    client.models.list()
            else:
                assert client.models.list().data


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_a_client_that_sends_everything_first_is_told(guarded: Server, connection: str) -> None:
    size = 20 << 20
    head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\ncontent-length: {size}"
    assert _raw(guarded, head.encode() + b"\r\n\r\n" + b"x" * size) == b"401"
    memory = Path(f"/proc/{guarded.process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
    assert int(memory) < 400_000


def test_a_client_that_waits_is_told_at_once(guarded: Server) -> None:
    for waits in (b"expect: 100-continue\r\n", b""):
        head = b"POST /v1/audio/speech HTTP/1.1\r\nhost: x\r\n" + waits + b"content-length: 1000000\r\n\r\n"
        assert _raw(guarded, head, timeout=3) == b"401"


def test_websockets_are_refused(guarded: Server) -> None:
    upgrade = (
        b"GET /v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert _raw(guarded, upgrade) in (b"401", b"403")


def _raw(server: Server, request: bytes, timeout: float = 30) -> bytes:
    """Send all of the request, then read; the status."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout) as connection:
        connection.sendall(request)
        return connection.recv(64).split()[1]


def test_no_token_in_the_log(guarded: Server) -> None:
    with guarded.http(headers={"authorization": "Bearer open-sesame"}) as http:
        http.get("/v1/models", params={"key": "open-sesame"})
        http.get("/v1/models", headers={"authorization": "Bearer a-guess"})
    log = guarded.log()
    assert '"path": "/v1/models"' in log
    assert "open-sesame" not in log and "zweites" not in log and "a-guess" not in log


def test_public_lists(pooled: Callable[..., Server]) -> None:
    server = pooled(AUTH_TOKEN="t", PUBLIC_LISTS="true")
    with server.http() as http:
        paths = ("/v1/models", "/v1/models/whisper-base", "/v1/audio/voices")
        assert [http.get(path).status_code for path in paths] == [200] * 3
        assert http.get("/api/ps").status_code == http.get("/v1/files").status_code == 401


def test_a_public_address_without_a_token_is_warned_of(start_server: Callable[..., Server]) -> None:
    server = start_server(HOST="0.0.0.0", GRPC_HOST="0.0.0.0")
    assert "no TALKIES_AUTH_TOKEN is set" in server.log()
    assert "no TALKIES_GRPC_KEY is set" in server.log()


# --- tritonserver ----------------------------------------------------------------------------------------------------


def test_tritonserver_is_closed_to_strangers(guarded: Server) -> None:
    with triton.InferenceServerClient(guarded.grpc) as client:
        for call in (
            client.get_model_repository_index,
            lambda: client.load_model("kokoro-82m"),
            lambda: client.unload_model("audio_chunks"),
            lambda: client.register_system_shared_memory("mine", "/talkies", 64),
            lambda: client.register_cuda_shared_memory("mine", b"aGFuZGxl", 0, 64),
            client.get_system_shared_memory_status,
            client.unregister_system_shared_memory,
            client.get_trace_settings,
            lambda: client.update_trace_settings(settings={"trace_level": "TENSORS"}),
            client.get_log_settings,
            lambda: client.update_log_settings({"log_verbose_level": 5}),
        ):
            for key in ("", "wrong"):
                headers = {"triton-grpc-protocol-admin-key": key} if key else None
                with pytest.raises(InferenceServerException, match="restricted"):
                    call() if headers is None else _with(client, call, headers)
        assert client.is_server_ready() and client.is_model_ready("audio_chunks")
        assert client.get_inference_statistics("audio_chunks").model_stats


def _with(client: triton.InferenceServerClient, call: Callable[[], object], headers: dict[str, str]) -> object:
    class Plugin(triton.InferenceServerClientPlugin):
        def __call__(self, request: Any) -> None:
            request.headers.update(headers)

    client.register_plugin(Plugin())
    try:
        return call()
    finally:
        client.unregister_plugin()


def test_tritonserver_has_no_http_api(guarded: Server) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{guarded.grpc}/v2/health/ready", timeout=5)
    # Its metrics port has nothing but metrics.
    assert httpx.get(f"http://127.0.0.1:{guarded.metrics_port}/v2/repository/index").text == ""
    command = Path(f"/proc/{guarded.triton_pid()}/cmdline").read_bytes().split(b"\0")
    assert b"--allow-http=false" in command


def test_tokens_of_a_file(start_server: Callable[..., Server], tmp_path: Path, jfk: Path) -> None:
    """Made, limited and taken away by the command while the server runs."""
    path = tmp_path / "tokens.json"

    def command(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "talkies", "token", *words],
            env={**os.environ, "TALKIES_AUTH_FILE": str(path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    owner = command("add", "owner", *(word for scope in tokens.PERMISSIONS for word in ("--scope", scope)))
    server = start_server(AUTH_FILE=str(path))
    phone = command("add", "phone", "--scope", "transcribe", "--audio-seconds", "5")

    def ask(secret: str, method: str, route: str, **options: Any) -> httpx.Response:
        with server.http() as http:
            return http.request(method, route, headers={"authorization": f"Bearer {secret}"}, **options)

    def transcribe(secret: str) -> httpx.Response:
        files = {"file": ("jfk.flac", jfk.read_bytes())}
        return ask(secret, "POST", "/v1/audio/transcriptions", data={"model": "whisper-1"}, files=files)

    assert transcribe(phone).status_code == 200
    over = transcribe(phone)
    assert (over.status_code, over.json()["error"]["code"]) == (429, "insufficient_quota")
    assert ask(phone, "GET", "/v1/models").status_code == 429
    speech = {"model": "tts-1", "voice": "af_heart", "input": "Hello."}
    assert ask(owner, "POST", "/v1/audio/speech", json=speech).status_code == 200
    metrics = ask(owner, "GET", "/metrics").text
    assert 'talkies_token_audio_seconds_total{token="phone"} 11' in metrics
    line = next(json.loads(line) for line in server.log().splitlines() if '"status": 429' in line)
    assert line["token"] == "phone" and phone not in server.log()
    command("remove", "phone")
    assert transcribe(phone).status_code == 401
