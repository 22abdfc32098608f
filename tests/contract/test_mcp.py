"""The MCP endpoint of the real server, with the official client and with plain HTTP."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from harness import audio
from harness.server import Server, wait_until
from harness.words import normalize

MODEL = "whisper-base"
SENTENCE = "ask not what your country can do for you"
PATHS = ("/v1/mcp", "/v1/mcp/")
ACCEPT = {"accept": "application/json, text/event-stream"}


@asynccontextmanager
async def agent(server: Server, path: str = PATHS[0], token: str = "", mode: str = "auto") -> AsyncGenerator[Client]:
    headers = {"authorization": f"Bearer {token}"} if token else None
    async with (
        create_mcp_http_client(headers=headers) as http,
        Client(streamable_http_client(server.url + path, http_client=http), mode=mode) as client,
    ):
        yield client


async def text(client: Client, name: str, **arguments: Any) -> str:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result
    (content,) = result.content
    assert content.type == "text"
    return content.text


async def fault(client: Client, name: str, **arguments: Any) -> str:
    result = await client.call_tool(name, arguments)
    assert result.is_error, result
    (content,) = result.content
    assert content.type == "text"
    return content.text


def stage(server: Server, name: str, data: bytes) -> str:
    with server.http() as http:
        http.put(f"/v1/files/{name}", content=data).raise_for_status()
    return name


def message(name: str, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


def answer(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    (data,) = (line for line in response.text.splitlines() if line.startswith("data: "))
    answer: dict[str, Any] = json.loads(data.removeprefix("data: "))
    return answer


def active(server: Server) -> int:
    with server.http() as http:
        return sum(model["active_requests"] for model in http.get("/api/ps").json()["models"])


@pytest.fixture
def speech(server: Server, jfk: Path) -> Iterator[str]:
    """The staged path of an 11 s recording."""
    name = stage(server, "mcp/jfk.flac", jfk.read_bytes())
    yield name
    with server.http() as http:
        http.delete(f"/v1/files/{name}")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_tools(server: Server, path: str, mode: str) -> None:
    async with agent(server, path, mode=mode) as client:
        assert client.server_info is not None
        assert client.server_info.name == "talkies"
        tools = (await client.list_tools()).tools
    arguments = {tool.name: set(tool.input_schema["properties"]) for tool in tools}
    assert arguments == {
        "list_models": set(),
        "transcribe": {"file_path", "model", "language", "response_format", "diarization"},
        "list_voices": set(),
        "speak": {"input", "path", "voice", "model", "speed"},
        "list_files": set(),
        "put_file": {"path", "content_base64"},
        "get_file": {"path"},
        "delete_file": {"path"},
    }


async def test_speech_is_staged_and_heard(server: Server) -> None:
    """Without a model: the defaults speak and listen."""
    async with agent(server) as client:
        voices = json.loads(await text(client, "list_voices"))["voices"]
        assert "af_heart" in {voice["voice"] for voice in voices}
        staged = json.loads(await text(client, "speak", input="The quick brown fox.", path="mcp/fox.mp3"))
        heard = json.loads(await text(client, "transcribe", file_path=staged["path"], language="en"))["text"]
        assert normalize(heard) == "the quick brown fox"
        await text(client, "delete_file", path="mcp/fox.mp3")


async def test_models(server: Server, speech: str) -> None:
    async with agent(server) as client:
        await text(client, "transcribe", file_path=speech, model=MODEL)
        models = {model["slug"]: model for model in json.loads(await text(client, "list_models"))}
    with server.http() as http:
        listed = {model["id"]: model["modality"] for model in http.get("/v1/models").json()["data"]}
    assert list(models) == [slug for slug, modality in listed.items() if modality == "asr"]
    keys = ["slug", "executor", "default_source_lang", "default_target_lang", "default_task", "loaded"]
    assert all(list(model) == keys for model in models.values())
    assert models[MODEL]["executor"] == "whisper" and models[MODEL]["loaded"] is True
    assert models["whisper-large-v3"]["loaded"] is False


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("response_format", ["json", "verbose_json", "text", "srt", "vtt"])
async def test_transcripts(server: Server, speech: str, response_format: str, mode: str) -> None:
    asked = {"file_path": speech, "model": MODEL, "response_format": response_format}
    async with agent(server, mode=mode) as client:
        heard = await text(client, "transcribe", **asked)
    with server.http() as http:
        response = http.post("/v1/audio/transcriptions", data=asked)
    assert heard == response.text
    match response_format:
        case "json":
            assert json.loads(heard).keys() == {"text"}
            heard = json.loads(heard)["text"]
        case "verbose_json":
            assert json.loads(heard).keys() == {"task", "language", "duration", "text", "segments", "words"}
            heard = json.loads(heard)["text"]
        case "srt":
            assert heard.startswith("1\n00:00:0")
            heard = " ".join(line for line in heard.splitlines() if line and "-->" not in line and not line.isdigit())
        case "vtt":
            assert heard.startswith("WEBVTT\n\n")
            heard = " ".join(line for line in heard.splitlines()[1:] if line and "-->" not in line)
    assert SENTENCE in normalize(heard)


async def test_openais_model_name(server: Server, speech: str) -> None:
    async with agent(server) as client:
        heard = await text(client, "transcribe", file_path=f"/{speech}", model="whisper-1", language="en")
    assert SENTENCE in normalize(json.loads(heard)["text"])


async def test_two_speakers(server: Server, jfk: Path) -> None:
    speech = audio.decode(jfk)
    both = stage(
        server, "mcp/both.wav", audio.encode(np.stack([speech, speech * 0]), 16_000, "wav", "pcm_s16le", "stereo")
    )
    mono = stage(server, "mcp/mono.wav", audio.encode(speech, 16_000, "wav", "pcm_s16le"))
    asked = {"model": MODEL, "response_format": "srt", "diarization": True}
    async with agent(server) as client:
        heard = await text(client, "transcribe", file_path=both, **asked)
        said = await fault(client, "transcribe", file_path=mono, **asked)
    assert "\nL: " in heard and "\nR: " not in heard
    assert "channel" in said or "stereo" in said


async def test_a_url(server: Server, jfk: Path) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(jfk.parent))) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{site.server_port}/{jfk.name}"
            async with agent(server) as client:
                heard = await text(client, "transcribe", file_path=url, model=MODEL, response_format="text")
                files = json.loads(await text(client, "list_files"))["files"]
                said = await fault(client, "transcribe", file_path=url + ".none", model=MODEL)
        finally:
            site.shutdown()
            thread.join()
    assert SENTENCE in normalize(heard)
    assert any(file["path"].startswith("downloads/") and file["path"].endswith(jfk.name) for file in files)
    assert "404" in said


async def test_files(server: Server) -> None:
    data = bytes(range(256)) * 100
    encoded = base64.b64encode(data).decode()
    async with agent(server) as client:
        put = json.loads(await text(client, "put_file", path="mcp/a/b.bin", content_base64=encoded))
        assert (put["path"], put["size"]) == ("mcp/a/b.bin", len(data))
        listed = json.loads(await text(client, "list_files"))
        with server.http() as http:
            assert http.get("/v1/files").json() == listed
            assert http.get("/v1/files/mcp/a/b.bin").content == data
        assert [file for file in listed["files"] if file["path"] == put["path"]] == [put]
        assert await text(client, "get_file", path="mcp/a/b.bin") == encoded
        await text(client, "delete_file", path="mcp/a/b.bin")
        assert "mcp/a/b.bin" not in await text(client, "list_files")
        assert not (server.data / "files" / "mcp" / "a").exists()
        assert "mcp/a/b.bin" in await fault(client, "delete_file", path="mcp/a/b.bin")


async def test_faults(server: Server, speech: str) -> None:
    stage(server, "mcp/noise.txt", b"no audio at all")
    async with agent(server) as client:
        say = partial(fault, client, "transcribe")
        assert "kokoro-82m speaks" in await say(file_path=speech, model="kokoro-82m")
        assert "no model 'whisper-9'" in await say(file_path=speech, model="whisper-9")
        assert "response_format" in await say(file_path=speech, model=MODEL, response_format="doc")
        assert "'xx'" in await say(file_path=speech, model=MODEL, language="xx")
        assert "mcp/none.flac" in await say(file_path="mcp/none.flac", model=MODEL)
        assert "file_path" in await say(file_path="../talkies.log", model=MODEL)
        assert "Internal" not in await say(file_path="mcp/noise.txt", model=MODEL)
        for said in (await say(file_path="mcp/noise.txt", model=MODEL), await fault(client, "get_file", path="../x")):
            assert str(server.data) not in said


@pytest.mark.parametrize("path", PATHS)
def test_plain_json_rpc(server: Server, speech: str, path: str) -> None:
    with server.http(headers=ACCEPT, follow_redirects=False) as http:
        listed = answer(http.post(path, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))
        assert (listed["id"], len(listed["result"]["tools"])) == (1, 8)
        heard = answer(http.post(path, json=message("transcribe", file_path=speech, model=MODEL)))["result"]
        assert SENTENCE in normalize(json.loads(heard["content"][0]["text"])["text"])
        assert http.get(path).status_code == http.delete(path).status_code == 405
        other = http.post(path, json=message("list_files"), headers={"host": "speech.example"})
        assert answer(other)["result"]["isError"] is False
        assert http.post(path, json=message("list_files"), headers={"origin": "http://evil.example"}).status_code == 403
        assert http.post(path, json=message("list_files"), headers={"accept": ""}).status_code == 406
        assert http.post(path, content=b"{", headers={"content-type": "application/json"}).status_code == 400


async def test_hanging_up_frees_the_model(server: Server, jfk: Path) -> None:
    minutes = np.tile(audio.decode(jfk), 30)
    name = stage(server, "mcp/long.wav", audio.encode(minutes, 16_000, "wav", "pcm_s16le"))
    async with httpx.AsyncClient(base_url=server.url, headers=ACCEPT, timeout=60) as http:
        work = asyncio.create_task(http.post(PATHS[0], json=message("transcribe", file_path=name, model=MODEL)))
        await asyncio.to_thread(wait_until, lambda: active(server) == 1, 60, "the transcription runs")
        assert not work.done()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await asyncio.to_thread(wait_until, lambda: active(server) == 0, 60, "the transcription ends with its client")


async def test_sizes_and_tokens(start_server: Callable[..., Server]) -> None:
    server = start_server(MAX_UPLOAD_BYTES="1000", AUTH_TOKEN="first,second")
    for path in PATHS:
        with server.http(headers=ACCEPT) as http:
            for wrong in ({}, {"authorization": "Bearer third"}):
                refused = http.post(path, json=message("list_files"), headers=wrong)
                assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    async with agent(server, token="second") as client:
        for size in (999, 1000):
            await text(client, "put_file", path="x", content_base64=base64.b64encode(b"x" * size).decode())
            assert len(base64.b64decode(await text(client, "get_file", path="x"))) == size
        encoded = base64.b64encode(b"x" * 1001).decode()
        assert "1000" in await fault(client, "put_file", path="x", content_base64=encoded)
        (server.data / "files" / "big").write_bytes(b"x" * 1001)
        assert "1000" in await fault(client, "get_file", path="big")
    with server.http(headers=ACCEPT | {"authorization": "Bearer first"}) as http:
        body = message("put_file", path="x", content_base64="A" * 100_000)
        refused = http.post(PATHS[0], json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "file_too_large")


async def test_a_stopping_server_finishes_its_answers(start_server: Callable[..., Server], jfk: Path) -> None:
    server = start_server(PRELOAD=MODEL)
    stage(server, "long.wav", audio.encode(np.tile(audio.decode(jfk), 3), 16_000, "wav", "pcm_s16le"))
    async with httpx.AsyncClient(base_url=server.url, headers=ACCEPT, timeout=60) as http:
        work = asyncio.create_task(http.post(PATHS[0], json=message("transcribe", file_path="long.wav", model=MODEL)))
        await asyncio.to_thread(wait_until, lambda: active(server) == 1, 60, "the transcription runs")
        server.process.send_signal(signal.SIGTERM)
        heard = answer(await work)["result"]["content"][0]["text"]
    assert SENTENCE in normalize(json.loads(heard)["text"])
