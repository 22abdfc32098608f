"""The HTTP API over fake services: every field, every format, every error in both shapes."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from talkies import logs
from talkies.api import request_log
from talkies.errors import EngineFailed, ModelUnavailable, Overloaded, TimedOut
from talkies.settings import Settings
from talkies.tts import encoder
from talkies_kit.wire import Sampling

from harness import audio
from harness.facade import RATE, SPEECH, SPOKEN, TRANSCRIPTIONS, Facade, assert_error, facade


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Facade]:
    async with facade(tmp_path) as running:
        yield running


# --- transcriptions --------------------------------------------------------------------------------------------------


async def test_a_transcription_with_defaults(api: Facade) -> None:
    response = await api.transcribe(audio=b"RIFF...")
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
    response = await api.transcribe(response_format=name)
    assert response.headers["content-type"] == media_type
    assert response.text.startswith(start)
    assert api.transcriber.calls[0]["options"].word_timestamps is (name in ("verbose_json", "srt", "vtt"))


async def test_every_field_reaches_the_model(api: Facade) -> None:
    many: dict[str, Any] = {"timestamp_granularities[]": ["word", "segment"], "timestamp_granularities": "word"}
    many["made_up"] = "x"
    response = await api.transcribe(
        language="DE",
        prompt="Namen",
        temperature="0.4",
        diarization="true",
        response_format="verbose_json",
        **many,
    )
    call = api.transcriber.calls[0]
    options = call["options"]
    assert (options.language, options.prompt, options.temperature, call["diarize"]) == ("de", "Namen", 0.4, True)
    body = response.json()
    assert body["text"] == "L: Ask not"
    assert body["segments"][0]["temperature"] == 0.4
    assert body["words"]


async def test_empty_fields_count_as_not_sent(api: Facade) -> None:
    response = await api.transcribe(language="", response_format="", temperature="", prompt="", file_path="")
    assert response.status_code == 200
    assert api.transcriber.calls[0]["options"].to_parameters() == {"text_only": True}


@pytest.mark.parametrize(("asked", "code"), [("en-US", "en"), ("EN", "en"), (" pt_BR ", "pt")])
async def test_languages_may_be_written_with_a_region(api: Facade, asked: str, code: str) -> None:
    await api.transcribe(language=asked)
    assert api.transcriber.calls[0]["options"].language == code


async def test_openai_model_names_mean_the_defaults(api: Facade) -> None:
    assert (await api.transcribe(model="whisper-1")).status_code == 200
    assert api.transcriber.calls[0]["model"] == "whisper-base"
    assert (await api.speak(model="tts-1")).status_code == 200
    assert api.synthesizer.calls[0]["model"] == "kokoro-82m"


@pytest.mark.parametrize("path", ["talks/one.flac", "/talks/one.flac"])
async def test_a_staged_file(api: Facade, path: str) -> None:
    assert (await api.transcribe(audio=None, file_path=path)).status_code == 200
    assert api.transcriber.calls[0]["audio"] == b"staged"
    assert (api.settings.files / "talks" / "one.flac").exists()


@pytest.mark.parametrize("path", ["a\0b", "a\\b", "./a", "a/../b", "..", "a//b", "//a", "/", "talks/", "out/secret"])
async def test_paths_out_of_the_staging_area(api: Facade, path: str, tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    (api.settings.files / "out").symlink_to(tmp_path)
    assert_error(await api.transcribe(audio=None, file_path=path), 400, param="file_path")


@pytest.mark.parametrize("path", ["nothing.wav", "talks", "talks/one.flac/two", "x" * 5000, "loop"])
async def test_staged_files_that_are_not_there(api: Facade, path: str) -> None:
    (api.settings.files / "loop").symlink_to("loop")
    assert_error(await api.transcribe(audio=None, file_path=path), 404, param="file_path", code="not_found")


async def test_both_or_neither_file(api: Facade) -> None:
    assert_error(await api.transcribe(file_path="talks/one.flac"), 400, "exactly one", param="file")
    assert_error(await api.transcribe(audio=None), 400, "exactly one", param="file")


@pytest.mark.parametrize(
    ("fields", "status", "words", "param"),
    [
        ({"model": "nope"}, 404, ("nope", "whisper-base"), "model"),
        ({"model": "kokoro-82m"}, 400, ("kokoro-82m",), "model"),
        ({"response_format": "docx"}, 400, ("docx", "verbose_json"), "response_format"),
        ({"language": "xx" * 999}, 400, ("xx", "GET /v1/models/whisper-base lists its 99 languages"), "language"),
        ({"language": "xx", "model": "canary-1b-flash"}, 400, ("its languages are en, de",), "language"),
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
    assert_error(await api.transcribe(**fields), status, *words, param=param)
    assert api.transcriber.calls == []
    assert api.uploads == []


async def test_a_missing_field_is_reported_as_pydantic_does(api: Facade) -> None:
    response = await api.client.post(TRANSCRIPTIONS, files={"file": ("a.wav", b"audio")})
    assert_error(response, 422, param="model", code="validation_error")
    assert response.json()["detail"] == [{"type": "missing", "loc": ["body", "model"], "msg": "Field required"}]


async def test_a_file_over_the_cap(tmp_path: Path) -> None:
    async with facade(tmp_path, max_upload_bytes=1000) as api:
        assert (await api.transcribe(audio=b"x" * 1000)).status_code == 200
        assert_error(await api.transcribe(audio=b"x" * 1001), 413, "1000", param="file", code="file_too_large")
        assert api.uploads == []


# --- speech ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", encoder.FORMATS)
async def test_speech_formats(api: Facade, name: str) -> None:
    response = await api.speak(response_format=name)
    assert response.status_code == 200
    assert response.headers["content-type"] == encoder.FORMATS[name].media_type
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.headers.get("x-sample-rate") == (str(RATE) if name == "pcm" else None)
    if name == "pcm":
        assert response.content == SPOKEN
    else:
        assert abs(len(audio.decode(response.content, RATE)) / RATE - 1) <= 1024 / RATE


async def test_speech_defaults(api: Facade) -> None:
    response = await api.speak(instructions="Cheerfully.", made_up=[1, {"x": None}], voice=None)
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
    asked: dict[str, Any] = {
        "temperature": 0,
        "top_k": 20,
        "top_p": 0.8,
        "repetition_penalty": 1.2,
        "max_new_tokens": 100,
    }
    assert (await api.speak(**asked)).status_code == 200
    assert (await api.speak(temperature=None)).status_code == 200
    assert [call["sampling"] for call in api.synthesizer.calls] == [Sampling(**asked), Sampling()]


@pytest.mark.parametrize("voice", ["bm_fable", {"id": "bm_fable"}])
async def test_a_voice_by_name_or_by_id(api: Facade, voice: object) -> None:
    assert (await api.speak(voice=voice)).status_code == 200
    assert api.synthesizer.calls[0]["voice"] == "bm_fable"


@pytest.mark.parametrize(("asked", "used"), [(0.1, 0.25), (9, 4.0), (-1, 0.25), (1.25, 1.25)])
async def test_speed_is_clamped(api: Facade, asked: float, used: float) -> None:
    await api.speak(speed=asked)
    assert api.synthesizer.calls[0]["speed"] == used


@pytest.mark.parametrize(
    ("fields", "status", "words", "param"),
    [
        ({"model": "nope"}, 404, ("nope", "kokoro-82m"), "model"),
        ({"model": "whisper-base"}, 400, ("whisper-base",), "model"),
        ({"input": ""}, 400, ("empty",), "input"),
        ({"input": " \n\t"}, 400, ("empty",), "input"),
        ({"voice": "alloy"}, 400, ("alloy", "af_alloy, af_heart, bm_fable", "work under model tts-1"), "voice"),
        ({"voice": "jf_alpha"}, 400, ("jf_alpha",), "voice"),
        ({"voice": {"id": "../../x"}}, 400, ("af_heart",), "voice"),
        ({"response_format": "wma"}, 400, ("wma", "mp3, opus"), "response_format"),
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
    assert_error(await api.speak(**fields), status, *words, param=param)
    assert api.synthesizer.calls == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"", None),
        (b"\xff\xfe", None),
        (b"[" * 10_000, None),
        (b"[]", None),
        (b'{"model": "kokoro-82m"}', "input"),
        (b'{"model": "kokoro-82m", "input": "\\ud800"}', None),
        (b'{"model": "kokoro-82m", "input": "x", "speed": NaN}', "speed"),
    ],
)
async def test_bodies_that_are_no_speech_request(api: Facade, body: bytes, param: str | None) -> None:
    assert_error(await api.client.post(SPEECH, content=body), 422, param=param)


async def test_a_body_of_more_values_than_any_request_has_is_not_parsed(api: Facade) -> None:
    assert_error(await api.client.post(SPEECH, content=b"[" * 100_000), 400, "outside of its strings")


async def test_a_json_body_has_a_limit(api: Facade) -> None:
    response = await api.client.post(SPEECH, content=b" " * (8 << 20) + b"{}")
    assert_error(response, 413, code="file_too_large")


async def test_openai_voice_names_on_request(tmp_path: Path) -> None:
    async with facade(tmp_path, openai_voices=True) as api:
        assert (await api.speak(voice="fable")).status_code == 200
        assert api.synthesizer.calls[0]["voice"] == "bm_fable"
        assert_error(await api.speak(voice="nova"), 400, "nova", param="voice")  # af_nova is not there
        voices = (await api.client.get("/v1/audio/voices")).json()["voices"]
        assert "fable" not in {voice["voice"] for voice in voices if voice["model"] == "kokoro-82m"}


async def test_speech_without_weights_says_what_the_load_says(api: Facade) -> None:
    for voice in (api.settings.data_dir / "models" / "kokoro-82m" / "voices").iterdir():
        voice.unlink()
    api.synthesizer.failure = ModelUnavailable("kokoro-82m has no weights: run `talkies pull kokoro-82m`.")
    assert_error(await api.speak(voice="any"), 503, "talkies pull", code="model_unavailable")


# --- what is there and what is loaded --------------------------------------------------------------------------------


async def test_voices(api: Facade) -> None:
    body = (await api.client.get("/v1/audio/voices")).json()
    assert body["voices"] == [
        {
            "voice": name,
            "id": name,
            "name": name,
            "model": "kokoro-82m",
            "default": name == "af_heart",
            "language": language,
            "gender": gender,
        }
        for name, language, gender in (
            ("af_alloy", "en-us", "female"),
            ("af_heart", "en-us", "female"),
            ("bm_fable", "en-gb", "male"),
        )
    ]
    (api.settings.data_dir / "models" / "kokoro-82m" / "voices" / "af_new.bin").touch()
    assert "af_new" in (await api.client.get("/v1/audio/voices")).text


async def test_models(api: Facade) -> None:
    body = (await api.client.get("/v1/models")).json()
    assert body["object"] == "list"
    assert [entry["id"] for entry in body["data"]] == list(api.registry)
    whisper = next(entry for entry in body["data"] if entry["id"] == "whisper-large-v3")
    assert isinstance(whisper.pop("created"), int)
    assert whisper.pop("available") is False
    assert {"en", "yue"} < set(whisper.pop("languages"))
    assert whisper == {"id": "whisper-large-v3", "object": "model", "owned_by": "Systran", "modality": "asr"}


async def test_the_first_page_and_the_documentation_need_no_network(api: Facade) -> None:
    home = await api.client.get("/")
    assert home.headers["content-type"] == "text/html; charset=utf-8"
    for place in re.findall(r'href="([^"]+)"', home.text):
        assert (await api.client.get(place)).status_code == 200, place
    for path in ("/", "/docs", "/redoc"):
        page = (await api.client.get(path)).text
        needed = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert not re.search(r"https?:|//[a-z]", page)
        assert all([(await api.client.get(place)).status_code == 200 for place in needed])
        assert path == "/" or any(place.endswith(".js") for place in needed)


async def test_what_answers_get_answers_head(tmp_path: Path) -> None:
    async with facade(tmp_path, auth_token="sesame", public_lists=True) as api:
        key = {"authorization": "Bearer sesame"}
        described = (await api.client.get("/openapi.json", headers=key)).json()["paths"]
        paths = [path for path, methods in described.items() if "get" in methods]
        assert len(paths) > 7
        filled = [path.format(path="talks/one.flac", model_id="kokoro-82m") for path in [*paths, "/", "/docs"]]
        for path in filled:
            whole = await api.client.get(path, headers=key)
            head = await api.client.head(path, headers=key)
            assert (head.status_code, head.content, whole.status_code) == (200, b"", 200), path
            assert head.headers["content-type"] == whole.headers["content-type"]
            if path != "/metrics":  # which counts its own readers
                assert head.headers["content-length"] == str(len(whole.content))
        for path in ("/v1/models", "/healthz"):
            assert (await api.client.head(path)).status_code == 200
        assert (await api.client.head("/metrics")).status_code == 401
        assert (await api.client.head("/v1/audio/speech", headers=key)).status_code == 405
        assert (await api.client.head("/v1/models/nope", headers=key)).status_code == 404
        counted = (await api.client.get("/metrics", headers=key)).text
        (line,) = [line for line in counted.splitlines() if 'status="404"' in line and "requests_total" in line]
        assert 'method="HEAD"' in line and 'route="/v1/models/{model_id:path}"' in line


async def test_a_slash_at_the_end_changes_nothing(api: Facade) -> None:
    for path in ("/v1/models/", "/v1/audio/voices//", "/healthz/", "/v1/models/kokoro-82m/"):
        assert (await api.client.get(path)).status_code == 200
    assert (await api.client.post(SPEECH + "/", json={"model": "tts-1", "input": "Hello."})).status_code == 200
    staged = await api.client.put("/v1/files/talks/", content=b"x")
    assert_error(staged, 400, param="path")


def with_audio(data: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "whisper-1", "input_audio": {"data": data, "format": "wav"}, **fields}


ENCODED = base64.b64encode(b"RIFF...").decode()


@pytest.mark.parametrize("data", [ENCODED, f"data:audio/wav;base64,{ENCODED}"])
async def test_a_transcription_as_json(api: Facade, data: str) -> None:
    more = {"language": "de", "temperature": 0.5, "stream": False, "prompt": None, "keywords": ["Ada", "Bob"], "x": {}}
    response = await api.client.post(TRANSCRIPTIONS, json=with_audio(data, response_format="text", **more))
    assert (response.status_code, response.text) == (200, "Ask not")
    (call,) = api.transcriber.calls
    assert call["audio"] == b"RIFF..."
    options = call["options"]
    assert (options.language, options.temperature, options.prompt) == ("de", 0.5, "Ada, Bob")
    assert api.uploads == []


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b"{}", 422, "model"),
        (b'{"model": "whisper-1"}', 400, "file"),
        (json.dumps(with_audio("***")).encode(), 400, "input_audio"),
        (json.dumps(with_audio(5)).encode(), 400, "input_audio"),
        (json.dumps(with_audio("")).encode(), 400, "file"),
        (json.dumps({"model": "whisper-1", "input_audio": "x"}).encode(), 400, "input_audio"),
        (json.dumps(with_audio(ENCODED, keywords=["x"] * 200)).encode(), 400, None),
        (json.dumps(with_audio(ENCODED, prompt="x" * 70_000)).encode(), 400, "prompt"),
        (json.dumps(with_audio("A" * (9 << 20))).encode(), 413, None),
    ],
)
async def test_json_that_is_no_transcription(api: Facade, body: bytes, status: int, param: str | None) -> None:
    response = await api.client.post(TRANSCRIPTIONS, content=body, headers={"content-type": "application/json"})
    assert_error(response, status, param=param)
    assert api.uploads == []


async def test_models_that_speak(tmp_path: Path) -> None:
    names = [{"id": name} for name in ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")]
    async with facade(tmp_path / "bare") as api:
        assert (await api.client.get("/v1/audio/models")).json() == {"models": names}
    async with facade(tmp_path / "outside", triton_url="elsewhere:8001") as api:
        speaking = [{"id": "kokoro-82m"}, {"id": "qwen3-tts-0.6b"}]
        assert (await api.client.get("/v1/audio/models")).json() == {"models": [*names, *speaking]}


@pytest.mark.parametrize("field", ["voice", "response_format", "speed", "instructions", "stream_format", "temperature"])
async def test_null_counts_as_not_sent(api: Facade, field: str) -> None:
    response = await api.speak(**{field: None})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "audio/mpeg"


@pytest.mark.parametrize("field", ["language", "response_format", "temperature", "stream", "diarization", "prompt"])
async def test_null_in_a_form_counts_as_not_sent(api: Facade, field: str) -> None:
    fields: dict[str, Any] = {field: "null"}
    response = await api.transcribe(**fields)
    assert response.status_code == 200, response.text
    assert response.json() == {"text": "Ask not"}


@pytest.mark.parametrize(
    ("written", "media_type"), [("MP3", "audio/mpeg"), ("ogg", "audio/ogg"), ("", "audio/mpeg"), ("Wav", "audio/wav")]
)
async def test_formats_as_people_write_them(api: Facade, written: str, media_type: str) -> None:
    assert (await api.speak(response_format=written)).headers["content-type"] == media_type
    assert (await api.transcribe(response_format="JSON")).json() == {"text": "Ask not"}


async def test_one_model(api: Facade) -> None:
    assert (await api.client.get("/v1/models/kokoro-82m")).json()["modality"] == "tts"
    assert (await api.client.get("/v1/models/whisper-1")).json()["id"] == "whisper-base"
    response = await api.client.get("/v1/models/hexgrad%2Fkokoro")
    assert_error(response, 404, "hexgrad/kokoro", param="model", code="model_not_found")


async def test_health(api: Facade) -> None:
    assert (await api.client.get("/healthz")).json() == {
        "ok": True,
        "device": "cuda:1, cpu",
        "models": list(api.registry),
    }


async def test_readiness(api: Facade) -> None:
    for query in ("", "?model=whisper-base", "?model=whisper-1", "?model="):
        answer = await api.client.get(f"/readyz{query}")
        assert (answer.status_code, answer.json()) == (200, {"ready": True})
    refusal = await api.client.get("/readyz?model=kokoro-82m")
    assert_error(refusal, 503, "kokoro-82m is not in memory", code="not_loaded")
    assert_error(await api.client.get("/readyz?model=nonsense"), 404, "nonsense", param="model")
    api.residency.up = False
    assert_error(await api.client.get("/readyz"), 503, "tritonserver does not answer", code="unavailable")
    api.residency.up = True
    api.draining.set()
    assert_error(await api.client.get("/readyz?model=whisper-base"), 503, "stops", code="unavailable")
    assert (await api.client.get("/healthz")).json()["ok"] is True  # it lives, and what runs is finished


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
    for response in (await api.transcribe(), await api.speak()):
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
        response = await api.speak(input="my secret words")
        api.synthesizer.failure = RuntimeError("my secret words")
        await api.speak(input="my secret words")
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


def test_logs_are_for_people_at_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    root = logging.getLogger()
    before = root.handlers[:], root.level
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    try:
        logs.configure(Settings.load(data_dir=tmp_path))
        structlog.get_logger("talkies.some").warning("hello", path="here")
    finally:
        root.handlers[:], root.level = before
        structlog.reset_defaults()
    (line,) = screen.getvalue().splitlines()
    assert "hello" in line and "here" in line and not line.startswith("{")


# --- clients that hang up --------------------------------------------------------------------------------------------


def upload() -> httpx.Request:
    data = {"model": "whisper-base"}
    return httpx.Request("POST", "http://talkies/", data=data, files={"file": ("a.wav", b"x" * 5000)})


async def test_hanging_up_cancels_the_transcription(api: Facade) -> None:
    api.transcriber.hold = asyncio.Event()
    (line,) = await api.hang_up(TRANSCRIPTIONS, upload(), api.transcriber.started)
    assert api.transcriber.cancelled
    assert (line["status"], line["model"]) == (request_log.CLIENT_CLOSED_REQUEST, "whisper-base")
    assert api.uploads == []


async def test_hanging_up_during_the_upload_leaves_no_file(api: Facade) -> None:
    (line,) = await api.hang_up(TRANSCRIPTIONS, upload(), None)
    assert line["status"] == request_log.CLIENT_CLOSED_REQUEST
    assert (api.uploads, api.transcriber.calls) == ([], [])


async def test_hanging_up_stops_the_speech(api: Facade) -> None:
    api.synthesizer.hold = asyncio.Event()
    request = httpx.Request("POST", "http://talkies/", json={"model": "kokoro-82m", "input": "x"})
    (line,) = await api.hang_up(SPEECH, request, api.synthesizer.started)
    assert api.synthesizer.closed
    assert line["status"] == request_log.CLIENT_CLOSED_REQUEST


async def test_a_long_speech_is_not_in_memory(api: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies without a name on the disk while it is made, and comes whole."""
    whole = (await api.speak(response_format="wav")).content
    monkeypatch.setattr("talkies.api.spool._IN_MEMORY", 1000)
    monkeypatch.setattr("talkies.api.spool._BLOCK", 999)
    made: list[Any] = []
    real = tempfile.SpooledTemporaryFile

    def spooled(*args: Any, **kwargs: Any) -> Any:
        made.append(real(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", spooled)
    response = await api.speak(response_format="wav")
    assert response.content == whole
    assert int(response.headers["content-length"]) == len(whole)
    [file] = made
    assert file._rolled and file.closed
    api.synthesizer.failure = RuntimeError("broke")
    assert (await api.speak(response_format="wav")).status_code == 500
    assert made[-1].closed
    assert list(api.settings.uploads.iterdir()) == []
