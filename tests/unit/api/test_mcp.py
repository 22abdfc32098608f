"""The MCP endpoint over fakes: the tools' arguments and answers, and what it refuses."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from talkies.api import request_log
from talkies.api.mcp import endpoint
from talkies.errors import EngineFailed

from harness.facade import Facade, assert_error, facade

PATHS = ("/v1/mcp", "/v1/mcp/")
ACCEPT = {"accept": "application/json, text/event-stream"}


@asynccontextmanager
async def agent(data: Path, **values: Any) -> AsyncGenerator[Facade]:
    async with facade(data, **values) as api, api.app.router.lifespan_context(api.app):
        yield api


def message(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def post(api: Facade, body: Any, path: str = PATHS[0], **headers: str) -> httpx.Response:
    return await api.client.post(path, json=body, headers=ACCEPT | headers)


def answer(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    (data,) = (line for line in response.text.splitlines() if line.startswith("data: "))
    answer: dict[str, Any] = json.loads(data.removeprefix("data: "))
    return answer


async def call(api: Facade, name: str, **arguments: Any) -> dict[str, Any]:
    """The result of a tool call."""
    result: dict[str, Any] = answer(await post(api, message("tools/call", name=name, arguments=arguments)))["result"]
    return result


async def text(api: Facade, name: str, **arguments: Any) -> str:
    """The text of a tool call that goes well."""
    result = await call(api, name, **arguments)
    assert not result["isError"], result
    (content,) = result["content"]
    return str(content["text"])


async def fault(api: Facade, name: str, **arguments: Any) -> str:
    """The text of a tool call that fails."""
    result = await call(api, name, **arguments)
    assert result["isError"] and "structuredContent" not in result, result
    (content,) = result["content"]
    return str(content["text"])


@pytest.mark.parametrize("path", PATHS)
async def test_the_tools_and_their_arguments(tmp_path: Path, path: str) -> None:
    async with agent(tmp_path) as api:
        tools = answer(await post(api, message("tools/list"), path))["result"]["tools"]
    arguments = {tool["name"]: set(tool["inputSchema"]["properties"]) for tool in tools}
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
    required = {tool["name"]: tool["inputSchema"].get("required", []) for tool in tools}
    assert required["transcribe"] == ["file_path"]
    hints = {tool["name"]: tool["annotations"] for tool in tools}
    assert [name for name, hint in hints.items() if hint["readOnlyHint"]] == [
        "list_models",
        "list_voices",
        "list_files",
        "get_file",
    ]
    assert [name for name, hint in hints.items() if hint.get("destructiveHint")] == ["speak", "put_file", "delete_file"]
    assert all(tool["description"] for tool in tools)


async def test_speech_is_staged(tmp_path: Path) -> None:
    async with agent(tmp_path) as api:
        voices = (await call(api, "list_voices"))["structuredContent"]["voices"]
        assert {"voice": "bm_fable", "model": "kokoro-82m", "default": False, "language": "en-gb"} in voices
        staged = (await call(api, "speak", input="Hello.", path="said/hello.wav", voice="bm_fable"))[
            "structuredContent"
        ]
        assert staged["path"] == "said/hello.wav"
        said = base64.b64decode(await text(api, "get_file", path="said/hello.wav"))
        assert said.startswith(b"RIFF") and len(said) == staged["size"]
        assert (api.synthesizer.calls[0]["model"], api.synthesizer.calls[0]["voice"]) == ("kokoro-82m", "bm_fable")
        assert api.uploads == []
        for wrong, word in (
            ({"path": "said/hello.doc"}, "mp3, opus"),
            ({"path": "../hello.wav"}, "path"),
            ({"path": "a.wav", "voice": "nobody"}, "its voices are"),
            ({"path": "a.wav", "model": "whisper-base"}, "list_voices"),
            ({"path": "a.wav", "input": "  "}, "empty"),
            ({"path": "a.wav", "speed": 9}, "speed"),
        ):
            assert word in await fault(api, "speak", **{"input": "Hello.", **wrong})


async def test_a_model_need_not_be_named(tmp_path: Path) -> None:
    async with agent(tmp_path) as api:
        await call(api, "transcribe", file_path="talks/one.flac")
        assert api.transcriber.calls[0]["model"] == "whisper-base"
        await post(api, message("tools/list"))
        counted = (await api.client.get("/metrics")).text
    assert 'talkies_requests_total{method="POST",model="",route="/v1/mcp",status="200"}' in counted


async def test_models_are_those_that_hear(tmp_path: Path) -> None:
    async with agent(tmp_path) as api:
        result = await call(api, "list_models")
    models = json.loads(result["content"][0]["text"])
    assert result["structuredContent"] == {"result": models}
    by_slug = {model.pop("slug"): model for model in models}
    assert "whisper-base" in by_slug and "kokoro-82m" not in by_slug
    assert by_slug["canary-1b-flash"] == {
        "executor": "canary_multitask",
        "default_source_lang": "en",
        "default_target_lang": "en",
        "default_task": "asr",
        "loaded": False,
    }
    assert [slug for slug, model in by_slug.items() if model["loaded"]] == ["whisper-base"]


@pytest.mark.parametrize("response_format", ["json", "verbose_json", "text", "srt", "vtt"])
async def test_transcripts_are_those_of_the_http_route(tmp_path: Path, response_format: str) -> None:
    asked = {"file_path": "talks/one.flac", "model": "whisper-base", "response_format": response_format}
    async with agent(tmp_path) as api:
        heard = await text(api, "transcribe", **asked)
        response = await api.client.post("/v1/audio/transcriptions", data=asked)
    assert heard == response.text
    assert "Ask not" in heard


async def test_arguments_reach_the_model(tmp_path: Path) -> None:
    asked = {"file_path": "/talks/one.flac", "model": "whisper-1", "language": "de-AT", "diarization": True}
    async with agent(tmp_path) as api:
        with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            await text(api, "transcribe", **asked)
        (made,) = api.transcriber.calls
    assert (made["model"], made["audio"], made["diarize"]) == ("whisper-base", b"staged", True)
    assert made["options"].language == "de"
    (line,) = lines
    assert (line["path"], line["status"], line["model"]) == (PATHS[0], 200, "whisper-base")
    assert line["request_id"] == made["request_id"]


async def test_null_counts_as_not_sent(tmp_path: Path) -> None:
    asked = {"file_path": "talks/one.flac", "model": "whisper-1"}
    nulls = {"language": None, "response_format": None, "diarization": None}
    async with agent(tmp_path) as api:
        assert await text(api, "transcribe", **asked, **nulls) == await text(api, "transcribe", **asked)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "kokoro-82m"}, "kokoro-82m speaks"),
        ({"model": "tts-1"}, "kokoro-82m speaks"),
        ({"model": "whisper-9"}, "no model 'whisper-9'"),
        ({"language": "xx"}, "no language 'xx'"),
        ({"response_format": "doc"}, "response_format: Input should be 'json', 'verbose_json', 'text', 'srt' or 'vtt'"),
        ({"file_path": "none.flac"}, "none.flac"),
        ({"file_path": "../talkies.log"}, "path"),
        ({"file_path": ""}, "path"),
        ({"lang": "en"}, "lang: Extra inputs are not permitted"),
    ],
)
async def test_what_is_asked_wrongly_is_said(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    asked = {"file_path": "talks/one.flac", "model": "whisper-base"} | change
    async with agent(tmp_path) as api:
        assert said in await fault(api, "transcribe", **asked)
        assert not api.transcriber.calls


async def test_an_unknown_tool_is_a_protocol_error(tmp_path: Path) -> None:
    async with agent(tmp_path) as api:
        error = answer(await post(api, message("tools/call", name="sing", arguments={})))["error"]
    assert error == {"code": -32602, "message": "Unknown tool: sing"}


async def test_an_engines_fault_is_said(tmp_path: Path) -> None:
    async with agent(tmp_path) as api:
        api.transcriber.failure = EngineFailed("whisper-base has run out of memory.")
        said = await fault(api, "transcribe", file_path="talks/one.flac", model="whisper-base")
    assert said == "whisper-base has run out of memory."


async def test_what_nobody_foresaw_stays_inside(tmp_path: Path) -> None:
    async with agent(tmp_path) as api:
        api.transcriber.failure = RuntimeError("my secret words")
        with structlog.testing.capture_logs() as lines:
            said = await fault(api, "transcribe", file_path="talks/one.flac", model="whisper-base")
    assert said == "Internal error"
    unhandled, _ = lines
    assert (unhandled["event"], unhandled["error"], unhandled["tool"]) == ("unhandled", "RuntimeError", "transcribe")
    assert "my secret words" not in str(lines)


async def test_files_come_and_go(tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000  # decoded in several pieces
    encoded = base64.b64encode(data).decode()
    async with agent(tmp_path) as api:
        put = json.loads(await text(api, "put_file", path="/a/b/two.bin", content_base64=encoded))
        assert (put["path"], put["size"]) == ("a/b/two.bin", len(data))
        assert (api.settings.files / "a" / "b" / "two.bin").read_bytes() == data
        listed = await call(api, "list_files")
        assert put in listed["structuredContent"]["files"]
        assert json.loads(listed["content"][0]["text"]) == listed["structuredContent"]
        assert (await api.client.get("/v1/files")).json() == listed["structuredContent"]
        assert await text(api, "get_file", path="a/b/two.bin") == encoded
        await text(api, "delete_file", path="a/b/two.bin")
        assert not (api.settings.files / "a").exists()
        assert "a/b/two.bin" in await fault(api, "delete_file", path="a/b/two.bin")
        assert "a/b/two.bin" in await fault(api, "get_file", path="a/b/two.bin")


@pytest.mark.parametrize("path", ["../up", "a//b", "a/./b", "a\\b", "a\0b", ""])
@pytest.mark.parametrize("tool", ["put_file", "get_file", "delete_file"])
async def test_paths_that_lead_out_are_refused(tmp_path: Path, tool: str, path: str) -> None:
    content = {"content_base64": "QQ=="} if tool == "put_file" else {}
    async with agent(tmp_path) as api:
        before = sorted(tmp_path.rglob("*"))
        assert "path" in await fault(api, tool, path=path, **content)
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("content", "data"), [("QUJD", b"ABC"), ("QU\r\nI=\n", b"AB"), ("", b""), ("QQ==", b"A")])
async def test_base64_may_be_wrapped(tmp_path: Path, content: str, data: bytes) -> None:
    async with agent(tmp_path) as api:
        await text(api, "put_file", path="x", content_base64=content)
        assert (api.settings.files / "x").read_bytes() == data


@pytest.mark.parametrize("content", ["QQ", "QQ=", "Q===", "QQ==QQ==", "QQ-_", "äöüß", "data:audio/wav;base64,QUJD"])
async def test_what_is_no_base64_is_refused(tmp_path: Path, content: str) -> None:
    async with agent(tmp_path) as api:
        assert "base64" in await fault(api, "put_file", path="x", content_base64=content)
        assert not (api.settings.files / "x").exists()


async def test_files_have_a_largest_size(tmp_path: Path) -> None:
    async with agent(tmp_path, max_upload_bytes=1000) as api:
        for size in (999, 1000):
            await text(api, "put_file", path="x", content_base64=base64.b64encode(b"x" * size).decode())
            assert len(base64.b64decode(await text(api, "get_file", path="x"))) == size
        encoded = base64.b64encode(b"y" * 1001).decode()
        assert "up to 1000" in await fault(api, "put_file", path="x", content_base64=encoded)
        assert (api.settings.files / "x").read_bytes() == b"x" * 1000
        (api.settings.files / "big").write_bytes(b"x" * 1001)
        assert "up to 1000" in await fault(api, "get_file", path="big")


@pytest.mark.parametrize("sized", [True, False])
async def test_messages_have_a_largest_size(tmp_path: Path, sized: bool) -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        yield b'"'
        while True:
            yield b"a" * 10_000

    content: Any = b" " * 100_000 if sized else pieces()
    async with agent(tmp_path, max_upload_bytes=1000) as api:
        headers = ACCEPT | {"content-type": "application/json"}
        response = await api.client.post(PATHS[0], content=content, headers=headers)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "file_too_large"


async def test_few_large_messages_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_TURN_WAIT", 0.2)
    monkeypatch.setattr(endpoint, "_LARGE", 1000)
    monkeypatch.setattr(endpoint, "_LARGE_AT_ONCE", 1)
    (started, hold), body = (asyncio.Event(), asyncio.Event()), json.dumps(message("tools/list")).encode()

    async def slow() -> AsyncGenerator[bytes]:
        yield b" " * 2000
        started.set()
        await hold.wait()
        yield body

    async with agent(tmp_path) as api:
        headers = ACCEPT | {"content-type": "application/json"}
        first = asyncio.create_task(api.client.post(PATHS[0], content=slow(), headers=headers))
        await started.wait()
        second = await api.client.post(PATHS[0], content=b" " * 2000 + body, headers=headers)
        assert second.status_code == 503
        assert second.json()["error"]["code"] == "overloaded" and second.headers["retry-after"]
        assert json.loads(await text(api, "list_models"))  # small ones pass
        hold.set()
        answer(await first)
        answer(await api.client.post(PATHS[0], content=b" " * 2000 + body, headers=headers))
        (api.settings.files / "x").write_bytes(b"x" * 2000)
        await text(api, "get_file", path="x")  # takes a turn for what it answers
        await text(api, "get_file", path="x")


@pytest.mark.parametrize(
    ("origin", "allowed", "status"),
    [
        (None, "", 200),
        ("https://ui.example", "", 403),
        ("https://ui.example", "https://ui.example", 200),
        ("https://ui.example", "*", 200),
        ("https://ui.example.evil.example", "https://ui.example", 403),
        ("null", "https://ui.example", 403),
        ("http://talkies", "", 403),  # its own host's name, which a page can have pointed here
    ],
)
async def test_web_pages_are_kept_out(tmp_path: Path, origin: str | None, allowed: str, status: int) -> None:
    async with agent(tmp_path, cors_origins=allowed) as api:
        response = await post(api, message("tools/list"), **{"origin": origin} if origin else {})
        assert response.status_code == status, response.text


async def test_any_host_is_welcome(tmp_path: Path) -> None:
    async with agent(tmp_path) as api:
        assert (await post(api, message("tools/list"), host="speech.example:9000")).status_code == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_without_sessions_there_is_only_post(tmp_path: Path, method: str, path: str) -> None:
    async with agent(tmp_path) as api:
        response = await api.client.request(method, path, headers=ACCEPT)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_both_kinds_of_answers_must_be_accepted(tmp_path: Path) -> None:
    async with agent(tmp_path) as api:
        for accept in ("", "application/json", "text/event-stream"):
            assert (await post(api, message("tools/list"), accept=accept)).status_code == 406


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_versions_of_the_protocol(tmp_path: Path, version: str) -> None:
    client = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    async with agent(tmp_path) as api:
        result = answer(await post(api, message("initialize", **client)))["result"]
        assert result["protocolVersion"] == version
        assert result["serverInfo"]["name"] == "talkies" and result["instructions"]
        assert result["capabilities"].keys() <= {"tools", "experimental"}
        listed = await post(api, message("tools/list"), **{"mcp-protocol-version": version})
        assert len(answer(listed)["result"]["tools"]) == 8
        client["protocolVersion"] = "2023-01-01"
        result = answer(await post(api, message("initialize", **client)))["result"]
        assert result["protocolVersion"] == "2025-11-25"


async def hang_up(api: Facade, body: bytes, when: asyncio.Event | None, **headers: str) -> Any:
    """Send `body`, and go away when `when` is set, or before the body's end if it is None; the log line."""
    fields = ACCEPT | {"host": "talkies", "content-type": "application/json"} | headers
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": PATHS[0],
        "raw_path": PATHS[0].encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
    }
    messages = [{"type": "http.request", "body": body, "more_body": when is None}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        if when:
            await when.wait()
        return {"type": "http.disconnect"}

    async def send(sent: Any) -> None:
        assert sent.get("status", 200) == 200

    with structlog.testing.capture_logs() as lines:
        await asyncio.wait_for(api.app(scope, receive, send), 5)
    (line,) = lines
    return line


@pytest.mark.parametrize("version", ["2025-06-18", "2026-07-28"])
async def test_hanging_up_cancels_the_transcription(tmp_path: Path, version: str) -> None:
    call = message("tools/call", name="transcribe", arguments={"file_path": "talks/one.flac", "model": "whisper-base"})
    call["params"]["_meta"] = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {"mcp-protocol-version": version, "mcp-method": "tools/call", "mcp-name": "transcribe"}
    async with agent(tmp_path) as api:
        api.transcriber.hold = asyncio.Event()
        line = await hang_up(api, json.dumps(call).encode(), api.transcriber.started, **headers)
        await asyncio.sleep(0.05)
        assert api.transcriber.cancelled
    assert (line["status"], line["model"]) == (request_log.CLIENT_CLOSED_REQUEST, "whisper-base")


async def test_hanging_up_before_the_messages_end(tmp_path: Path) -> None:
    async with agent(tmp_path) as api:
        line = await hang_up(api, b'{"jsonrpc": ', None)
    assert line["status"] == request_log.CLIENT_CLOSED_REQUEST


@pytest.mark.parametrize("unit", ["1,", '{"a":', "[", '"k":1,'])
async def test_a_message_of_many_values_is_refused_unparsed(tmp_path: Path, unit: str) -> None:
    body = '{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"x": [' + unit * 70_000
    async with agent(tmp_path) as api:
        response = await api.client.post(PATHS[0], content=body, headers=ACCEPT | {"content-type": "application/json"})
    assert_error(response, 400, "outside of its strings")
