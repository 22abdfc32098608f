"""The HTTP API over fake services: every field, every format, every error in both shapes."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
import structlog
from talkies import encode, logs
from talkies.errors import EngineFailed, ModelUnavailable, Overloaded, TimedOut
from talkies.settings import Settings
from talkies_kit.wire import Sampling

from tests.unit.facade import RATE, SPOKEN, Facade, facade

TRANSCRIPTIONS, SPEECH = "/v1/audio/transcriptions", "/v1/audio/speech"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Facade]:
    async with facade(tmp_path) as running:
        yield running


async def transcribe(api: Facade, *, audio: bytes | None = b"audio", **fields: Any) -> httpx.Response:
    files = {"file": ("a.wav", audio)} if audio is not None else {"unused": ("u.bin", b"x")}
    return await api.client.post(TRANSCRIPTIONS, data={"model": "whisper-base", **fields}, files=files)


async def speak(api: Facade, **fields: Any) -> httpx.Response:
    return await api.client.post(SPEECH, json={"model": "kokoro-82m", "input": "Hello.", **fields})


def assert_error(
    response: httpx.Response, status: int, *words: str, param: str | None = None, code: str | None = None
) -> None:
    """Both shapes, an id, and all `words` in the message."""
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"].startswith("req_")
    body = response.json()
    assert set(body) == {"detail", "error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    if status == 422:
        assert all(set(entry) == {"type", "loc", "msg"} for entry in body["detail"])
    else:
        assert body["detail"] == body["error"]["message"]
    assert body["error"]["type"] == ("invalid_request_error" if status < 500 else "server_error")
    assert body["error"]["param"] == param
    assert code is None or body["error"]["code"] == code
    for word in words:
        assert word in body["error"]["message"]


# --- transcriptions --------------------------------------------------------------------------------------------------


async def test_a_transcription_with_defaults(api: Facade) -> None:
    response = await transcribe(api, audio=b"RIFF...")
    assert response.status_code == 200
    assert response.json() == {"text": "Ask not"}
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    (call,) = api.transcriber.calls
    assert (call["model"], call["audio"], call["diarize"]) == ("whisper-base", b"RIFF...", False)
    assert call["options"].to_parameters() == {"text_only": True}
    assert call["path"].parent == api.settings.uploads
    assert call["request_id"] == response.headers["x-request-id"]
    assert api.uploads == []


@pytest.mark.parametrize(
    ("name", "media_type", "start"),
    [
        ("json", "application/json", '{"text":'),
        ("text", "text/plain; charset=utf-8", "Ask not"),
        ("verbose_json", "application/json", '{"task":"transcribe"'),
        ("srt", "application/x-subrip; charset=utf-8", "1\n00:00:00,250 --> 00:00:01,500\nAsk not\n"),
        ("vtt", "text/vtt; charset=utf-8", "WEBVTT\n\n00:00:00.250 -->"),
    ],
)
async def test_transcript_formats(api: Facade, name: str, media_type: str, start: str) -> None:
    response = await transcribe(api, response_format=name)
    assert response.headers["content-type"] == media_type
    assert response.text.startswith(start)
    assert api.transcriber.calls[0]["options"].word_timestamps is (name == "verbose_json")


async def test_every_field_reaches_the_model(api: Facade) -> None:
    response = await transcribe(
        api,
        language="DE",
        prompt="Namen",
        temperature="0.4",
        diarization="true",
        response_format="verbose_json",
        **{"timestamp_granularities[]": ["word", "segment"], "timestamp_granularities": "word", "made_up": "x"},
    )
    call = api.transcriber.calls[0]
    options = call["options"]
    assert (options.language, options.prompt, options.temperature, call["diarize"]) == ("de", "Namen", 0.4, True)
    body = response.json()
    assert body["text"] == "L: Ask not"
    assert body["segments"][0]["temperature"] == 0.4
    assert body["words"]


async def test_empty_fields_count_as_not_sent(api: Facade) -> None:
    response = await transcribe(api, language="", response_format="", temperature="", prompt="", file_path="")
    assert response.status_code == 200
    assert api.transcriber.calls[0]["options"].to_parameters() == {"text_only": True}


@pytest.mark.parametrize(("asked", "code"), [("en-US", "en"), ("EN", "en"), (" pt_BR ", "pt")])
async def test_languages_may_be_written_with_a_region(api: Facade, asked: str, code: str) -> None:
    await transcribe(api, language=asked)
    assert api.transcriber.calls[0]["options"].language == code


async def test_openai_model_names_mean_the_defaults(api: Facade) -> None:
    assert (await transcribe(api, model="whisper-1")).status_code == 200
    assert api.transcriber.calls[0]["model"] == "whisper-base"
    assert (await speak(api, model="tts-1")).status_code == 200
    assert api.synthesizer.calls[0]["model"] == "kokoro-82m"


@pytest.mark.parametrize("path", ["talks/one.flac", "/talks/one.flac"])
async def test_a_staged_file(api: Facade, path: str) -> None:
    assert (await transcribe(api, audio=None, file_path=path)).status_code == 200
    assert api.transcriber.calls[0]["audio"] == b"staged"
    assert (api.settings.files / "talks" / "one.flac").exists()


@pytest.mark.parametrize("path", ["a\0b", "a\\b", "./a", "a/../b", "..", "a//b", "//a", "/", "talks/", "out/secret"])
async def test_paths_out_of_the_staging_area(api: Facade, path: str, tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    (api.settings.files / "out").symlink_to(tmp_path)
    assert_error(await transcribe(api, audio=None, file_path=path), 400, param="file_path")


@pytest.mark.parametrize("path", ["nothing.wav", "talks", "talks/one.flac/two", "x" * 5000, "loop"])
async def test_staged_files_that_are_not_there(api: Facade, path: str) -> None:
    (api.settings.files / "loop").symlink_to("loop")
    assert_error(await transcribe(api, audio=None, file_path=path), 404, param="file_path", code="not_found")


async def test_both_or_neither_file(api: Facade) -> None:
    assert_error(await transcribe(api, file_path="talks/one.flac"), 400, "exactly one", param="file")
    assert_error(await transcribe(api, audio=None), 400, "exactly one", param="file")


@pytest.mark.parametrize(
    ("fields", "status", "words", "param"),
    [
        ({"model": "nope"}, 404, ("nope", "whisper-base"), "model"),
        ({"model": "kokoro-82m"}, 400, ("kokoro-82m",), "model"),
        ({"response_format": "docx"}, 400, ("docx", "verbose_json"), "response_format"),
        ({"language": "xx"}, 400, ("xx", "de", "en"), "language"),
        ({"temperature": "1.5"}, 422, ("temperature",), "temperature"),
        ({"temperature": "nan"}, 422, ("temperature",), "temperature"),
        ({"temperature": "warm"}, 422, ("temperature",), "temperature"),
        ({"diarization": "perhaps"}, 422, ("diarization",), "diarization"),
        ({"model": ""}, 422, ("model",), "model"),
        ({"audio": b""}, 400, ("empty",), "file"),
    ],
)
async def test_transcription_errors(
    api: Facade, fields: dict[str, Any], status: int, words: tuple[str, ...], param: str
) -> None:
    assert_error(await transcribe(api, **fields), status, *words, param=param)
    assert api.transcriber.calls == []
    assert api.uploads == []


async def test_a_missing_field_is_reported_as_pydantic_does(api: Facade) -> None:
    response = await api.client.post(TRANSCRIPTIONS, files={"file": ("a.wav", b"audio")})
    assert_error(response, 422, param="model", code="validation_error")
    assert response.json()["detail"] == [{"type": "missing", "loc": ["body", "model"], "msg": "Field required"}]


async def test_a_file_over_the_cap(tmp_path: Path) -> None:
    async with facade(tmp_path, max_upload_bytes=1000) as api:
        assert (await transcribe(api, audio=b"x" * 1000)).status_code == 200
        assert_error(await transcribe(api, audio=b"x" * 1001), 413, "1000", param="file", code="file_too_large")
        assert api.uploads == []


# --- speech ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", encode.FORMATS)
async def test_speech_formats(api: Facade, name: str) -> None:
    response = await speak(api, response_format=name)
    assert response.status_code == 200
    assert response.headers["content-type"] == encode.FORMATS[name].media_type
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.headers.get("x-sample-rate") == (str(RATE) if name == "pcm" else None)
    if name == "pcm":
        assert response.content == SPOKEN
    else:
        with av.open(io.BytesIO(response.content)) as audio:
            seconds = sum(frame.samples / frame.sample_rate for frame in audio.decode(audio=0))
        assert abs(seconds - 1) <= 1024 / RATE


async def test_speech_defaults(api: Facade) -> None:
    response = await speak(api, instructions="Cheerfully.", made_up=[1, {"x": None}], voice=None)
    assert response.headers["content-type"] == "audio/mpeg"
    assert api.synthesizer.calls == [
        {
            "model": "kokoro-82m",
            "text": "Hello.",
            "voice": "af_heart",
            "speed": 1.0,
            "sampling": Sampling(),
            "request_id": response.headers["x-request-id"],
        }
    ]


async def test_sampling_goes_to_the_engine(api: Facade) -> None:
    asked = {"temperature": 0, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.2, "max_new_tokens": 100}
    assert (await speak(api, **asked)).status_code == 200
    assert (await speak(api, temperature=None)).status_code == 200
    assert [call["sampling"] for call in api.synthesizer.calls] == [Sampling(**asked), Sampling()]


@pytest.mark.parametrize("voice", ["bm_fable", {"id": "bm_fable"}])
async def test_a_voice_by_name_or_by_id(api: Facade, voice: object) -> None:
    assert (await speak(api, voice=voice)).status_code == 200
    assert api.synthesizer.calls[0]["voice"] == "bm_fable"


@pytest.mark.parametrize(("asked", "used"), [(0.1, 0.25), (9, 4.0), (-1, 0.25), (1.25, 1.25)])
async def test_speed_is_clamped(api: Facade, asked: float, used: float) -> None:
    await speak(api, speed=asked)
    assert api.synthesizer.calls[0]["speed"] == used


@pytest.mark.parametrize(
    ("fields", "status", "words", "param"),
    [
        ({"model": "nope"}, 404, ("nope", "kokoro-82m"), "model"),
        ({"model": "whisper-base"}, 400, ("whisper-base",), "model"),
        ({"input": ""}, 400, ("empty",), "input"),
        ({"input": " \n\t"}, 400, ("empty",), "input"),
        ({"voice": "alloy"}, 400, ("alloy", "af_alloy, af_heart, bm_fable"), "voice"),
        ({"voice": "jf_alpha"}, 400, ("jf_alpha",), "voice"),
        ({"voice": {"id": "../../x"}}, 400, ("af_heart",), "voice"),
        ({"response_format": "ogg"}, 400, ("ogg", "mp3, opus"), "response_format"),
        ({"speed": "fast"}, 422, ("speed",), "speed"),
        ({"temperature": 2.1}, 400, ("temperature", "between 0 and 2"), "temperature"),
        ({"max_new_tokens": 0}, 400, ("between 1 and 8192",), "max_new_tokens"),
        ({"top_k": 1.5}, 422, ("top_k",), "top_k"),
        ({"model": "qwen3-tts-0.6b", "voice": "af_heart"}, 400, ("alloy, echo, fable",), "voice"),
        ({"input": 5}, 422, ("input",), "input"),
        ({"model": None}, 422, ("model",), "model"),
    ],
)
async def test_speech_errors(
    api: Facade, fields: dict[str, Any], status: int, words: tuple[str, ...], param: str
) -> None:
    assert_error(await speak(api, **fields), status, *words, param=param)
    assert api.synthesizer.calls == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b"[]", None),
        (b'{"model": "kokoro-82m"}', "input"),
        (b'{"model": "kokoro-82m", "input": "\\ud800"}', None),
        (b'{"model": "kokoro-82m", "input": "x", "speed": NaN}', "speed"),
    ],
)
async def test_bodies_that_are_no_speech_request(api: Facade, body: bytes, param: str | None) -> None:
    assert_error(await api.client.post(SPEECH, content=body), 422, param=param)


async def test_a_json_body_has_a_limit(api: Facade) -> None:
    response = await api.client.post(SPEECH, content=b" " * (8 << 20) + b"{}")
    assert_error(response, 413, code="file_too_large")


async def test_openai_voice_names_on_request(tmp_path: Path) -> None:
    async with facade(tmp_path, openai_voices=True) as api:
        assert (await speak(api, voice="fable")).status_code == 200
        assert api.synthesizer.calls[0]["voice"] == "bm_fable"
        assert_error(await speak(api, voice="nova"), 400, "nova", param="voice")  # af_nova is not there
        voices = (await api.client.get("/v1/audio/voices")).json()["voices"]
        assert "fable" not in {voice["voice"] for voice in voices if voice["model"] == "kokoro-82m"}


async def test_speech_without_weights_says_what_the_load_says(api: Facade) -> None:
    for voice in (api.settings.data_dir / "models" / "kokoro-82m" / "voices").iterdir():
        voice.unlink()
    api.synthesizer.failure = ModelUnavailable("kokoro-82m has no weights: run `talkies pull kokoro-82m`.")
    assert_error(await speak(api, voice="any"), 503, "talkies pull", code="model_unavailable")


# --- what is there and what is loaded --------------------------------------------------------------------------------


async def test_voices(api: Facade) -> None:
    body = (await api.client.get("/v1/audio/voices")).json()
    assert body["voices"] == [
        {"voice": name, "id": name, "name": name, "model": "kokoro-82m", "default": name == "af_heart"}
        for name in ("af_alloy", "af_heart", "bm_fable")
    ]
    (api.settings.data_dir / "models" / "kokoro-82m" / "voices" / "af_new.bin").touch()
    assert "af_new" in (await api.client.get("/v1/audio/voices")).text


async def test_models(api: Facade) -> None:
    body = (await api.client.get("/v1/models")).json()
    assert body["object"] == "list"
    assert [entry["id"] for entry in body["data"]] == list(api.registry)
    whisper = next(entry for entry in body["data"] if entry["id"] == "whisper-large-v3")
    assert isinstance(whisper.pop("created"), int)
    assert whisper == {"id": "whisper-large-v3", "object": "model", "owned_by": "Systran", "modality": "asr"}


async def test_one_model(api: Facade) -> None:
    assert (await api.client.get("/v1/models/kokoro-82m")).json()["modality"] == "tts"
    assert (await api.client.get("/v1/models/whisper-1")).json()["id"] == "whisper-base"
    response = await api.client.get("/v1/models/hexgrad%2Fkokoro")
    assert_error(response, 404, "hexgrad/kokoro", param="model", code="model_not_found")


async def test_health(api: Facade) -> None:
    assert (await api.client.get("/healthz")).json() == {"ok": True, "device": "cpu", "models": list(api.registry)}


async def test_ps_and_unload(api: Facade) -> None:
    loaded = {"model": "whisper-base", "modality": "asr", "idle_seconds": 1.5, "active_requests": 0}
    assert (await api.client.get("/api/ps")).json() == {"models": [loaded]}
    assert (await api.client.delete("/api/ps/whisper-base")).json() == {"unloaded": ["whisper-base"]}
    assert_error(await api.client.delete("/api/ps/whisper-base"), 404, "not loaded", code="not_found")
    assert_error(await api.client.delete("/api/ps/no%2Fsuch"), 404, "no/such", param="model")
    api.residency.loaded = ["kokoro-82m"]
    assert (await api.client.post("/unload")).json() == {"unloaded": ["kokoro-82m"]}
    assert (await api.client.get("/api/ps")).json() == {"models": []}


async def test_the_openapi_document_describes_the_bodies(api: Facade) -> None:
    paths = (await api.client.get("/openapi.json")).json()["paths"]
    form = paths[TRANSCRIPTIONS]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["model"]
    assert {"file", "file_path", "language", "diarization", "timestamp_granularities[]"} <= set(form["properties"])
    body = paths[SPEECH]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["model", "input"]
    assert "$ref" not in json.dumps(body)


# --- errors, ids and logs on every path ------------------------------------------------------------------------------


async def test_unknown_paths_and_methods(api: Facade) -> None:
    assert_error(await api.client.get("/v1/nothing"), 404, code="not_found")
    response = await api.client.get(SPEECH)
    assert_error(response, 405, code="method_not_allowed")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("failure", "status", "code", "header"),
    [
        (Overloaded("full"), 503, "overloaded", ("retry-after", "2")),
        (ModelUnavailable("no weights"), 503, "model_unavailable", ("x-should-retry", "false")),
        (TimedOut("late"), 504, "timeout", ("x-should-retry", "false")),
        (EngineFailed("broken"), 500, "engine_failed", ("x-should-retry", "false")),
        (RuntimeError("SECRET /etc/passwd"), 500, "internal_error", ("x-should-retry", "false")),
    ],
)
async def test_failures_of_the_services(
    api: Facade, failure: Exception, status: int, code: str, header: tuple[str, str]
) -> None:
    api.transcriber.failure = api.synthesizer.failure = failure
    for response in (await transcribe(api), await speak(api)):
        assert_error(response, status, code=code)
        assert response.headers[header[0]] == header[1]
        assert "SECRET" not in response.text
    assert api.uploads == []
    assert api.synthesizer.closed


async def test_request_ids(api: Facade) -> None:
    async def given(request_id: str) -> str:
        response = await api.client.get("/healthz", headers={"x-request-id": request_id})
        return str(response.headers["x-request-id"])

    assert await given("0af7651916cd43dd8448eb211c80319c") == "0af7651916cd43dd8448eb211c80319c"
    for odd in ("mine", "x" * 200, "with blanks in its middle", 'quote"-and-more-than-16'):
        assert (await given(odd)).startswith("req_")
    assert await given("mine") != await given("mine")


async def test_health_without_a_tritonserver(api: Facade) -> None:
    api.residency.up = False
    response = await api.client.get("/healthz")
    assert (response.status_code, response.json()["ok"]) == (200, False)


async def test_one_line_per_request_without_content(api: Facade) -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        response = await speak(api, input="my secret words")
        api.synthesizer.failure = RuntimeError("my secret words")
        await speak(api, input="my secret words")
    spoken, unhandled, failed = lines
    assert spoken.pop("seconds") >= 0
    assert spoken == {
        "event": "request",
        "log_level": "info",
        "method": "POST",
        "path": SPEECH,
        "status": 200,
        "model": "kokoro-82m",
        "request_id": response.headers["x-request-id"],
    }
    assert (unhandled["event"], unhandled["error"], failed["status"]) == ("unhandled", "RuntimeError", 500)
    assert unhandled["request_id"] == failed["request_id"] != spoken["request_id"]
    assert "secret" not in str(lines)


def test_logs_are_json_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.configure(Settings.load(data_dir=tmp_path, log_level="warning"))
        structlog.get_logger("talkies.some").warning("hello", path=tmp_path)
        structlog.get_logger("talkies.some").info("too quiet")
        logging.getLogger("other").error("disk %s", "full")
    finally:
        root.handlers[:], root.level = before
        structlog.reset_defaults()
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["level"], first["logger"]) == ("hello", "warning", "talkies.some")
    assert (second["event"], second["level"], second["logger"]) == ("disk full", "error", "other")
    assert first["timestamp"].endswith("Z")


# --- clients that hang up --------------------------------------------------------------------------------------------


def scope(path: str, content_type: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", content_type.encode())],
        "client": ("test", 1),
        "server": ("talkies", 80),
    }


async def hang_up(api: Facade, path: str, request: httpx.Request, when: asyncio.Event | None) -> list[dict[str, Any]]:
    """Send a request and hang up at `when`; None is in the middle of the body. Returns the log lines."""
    content = request.read()
    body = content if when else content[: len(content) // 2]
    messages = [{"type": "http.request", "body": body, "more_body": when is None}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        if when:
            await when.wait()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        pytest.fail("nobody is there to read an answer")

    with structlog.testing.capture_logs() as lines:
        await asyncio.wait_for(api.app(scope(path, request.headers["content-type"]), receive, send), 5)
    assert lines[-1]["seconds"] < 4  # the work ended at once, not with the test's patience
    return list(lines)


def upload() -> httpx.Request:
    data = {"model": "whisper-base"}
    return httpx.Request("POST", "http://talkies/", data=data, files={"file": ("a.wav", b"x" * 5000)})


async def test_hanging_up_cancels_the_transcription(api: Facade) -> None:
    api.transcriber.hold = asyncio.Event()
    (line,) = await hang_up(api, TRANSCRIPTIONS, upload(), api.transcriber.started)
    assert api.transcriber.cancelled
    assert (line["status"], line["model"]) == (logs.CLIENT_CLOSED_REQUEST, "whisper-base")
    assert api.uploads == []


async def test_hanging_up_during_the_upload_leaves_no_file(api: Facade) -> None:
    (line,) = await hang_up(api, TRANSCRIPTIONS, upload(), None)
    assert line["status"] == logs.CLIENT_CLOSED_REQUEST
    assert api.uploads == api.transcriber.calls == []


async def test_hanging_up_stops_the_speech(api: Facade) -> None:
    api.synthesizer.hold = asyncio.Event()
    request = httpx.Request("POST", "http://talkies/", json={"model": "kokoro-82m", "input": "x"})
    (line,) = await hang_up(api, SPEECH, request, api.synthesizer.started)
    assert api.synthesizer.closed
    assert line["status"] == logs.CLIENT_CLOSED_REQUEST
