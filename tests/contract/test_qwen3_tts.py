"""Qwen3-TTS through the whole stack, on a tiny model in the real file format and the shipped clips.

On the CPU where there is no GPU.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import openai
import pytest
from talkies.engines.triton import Keys, Triton
from talkies.errors import BadRequest
from talkies.registry import Registry
from talkies.settings import PROJECT, Settings
from talkies.setup import weights
from talkies_kit.wire import Sampling

from harness import audio
from harness.models import cache
from harness.server import Server, default_home, running, wait_until
from harness.speech import CONTENT_TYPES, MAGIC

MODEL, GERMAN, ABSENT = "qwen3-tts-0.6b", "qwen3-tts-german", "qwen3-tts-absent"
BUILTIN = PROJECT / "model_repository" / "qwen3_tts" / "voices"
FRAME = 1920
"""Samples."""
RATE = 24_000


@pytest.fixture(scope="module")
def model(build: Callable[[str], None]) -> Path:
    build("qwen3_tts")
    return cache.made(default_home(), "qwen3_tts", "make_qwen3_tts.py", [])


def prepare(data: Path, model: Path) -> dict[str, str]:
    """Settings of a server that has the weights of MODEL, for GERMAN too, and not those of ABSENT."""
    entry = json.loads((PROJECT / "models.json").read_text())["models"][MODEL]
    here = {**entry, "sources": [{"path": str(model)}]}
    entries = {MODEL: here, GERMAN: {**here, "default_language": "de"}, ABSENT: entry}
    (data / "models.json").write_text(json.dumps({"models": entries}))
    for slug in (MODEL, GERMAN):
        weights.pull(Settings(data_dir=data), Registry.load(data / "models.json")[slug])
    return {"MODELS_FILE": str(data / "models.json"), "CPU_THREADS": "1"}


@pytest.fixture(scope="module")
def qwen(prepared: None, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("qwen")
    with running(data, ALLOW_SLOW_CPU="true", **prepare(data, model)) as server:
        yield server


@pytest.fixture
def custom(qwen: Server) -> Iterator[Path]:
    """The folder of the user's clips, empty at first and at last."""
    folder = qwen.data / "custom-voices"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def post(server: Server, text: str = "Hello there.", **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "input": text, "response_format": "pcm", "temperature": 0, "max_new_tokens": 4, **fields}
    with server.http() as http:
        return http.post("/v1/audio/speech", json=body)


def speak(server: Server, text: str = "Hello there.", **fields: Any) -> bytes:
    """PCM, by default the first frames that are likeliest, so that the same request gives the same."""
    response = post(server, text, **fields)
    assert response.is_success, response.text
    return response.content


def refusal(server: Server, text: str = "Hello there.", **fields: Any) -> tuple[str, str]:
    """The field and the message of a 400."""
    response = post(server, text, **fields)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    return error["param"], error["message"]


def voices(server: Server) -> dict[str, str]:
    """The origins of the model's voices."""
    with server.http() as http:
        listed = http.get("/v1/audio/voices").json()["voices"]
    return {voice["voice"]: voice["origin"] for voice in listed if voice["model"] == MODEL}


def wav(seconds: float, rate: int = RATE, gain: int = 1) -> bytes:
    """A clip of a hum."""
    return audio.encode(gain * audio.tone(seconds, rate, 150.0), rate, "wav", "pcm_s16le")


# --- speech ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("format", MAGIC)
def test_formats(qwen: Server, format: str) -> None:
    answer = qwen.openai().audio.speech.create(
        model=MODEL,
        voice="echo",
        input="Hello there.",
        response_format=format,  # type: ignore[arg-type]
        extra_body={"max_new_tokens": 12, "temperature": 0},
    )
    assert answer.content.startswith(MAGIC[format])
    assert answer.response.headers["content-type"] == CONTENT_TYPES[format]
    with av.open(io.BytesIO(answer.content)) as container:
        assert container.streams.audio[0].layout.nb_channels == 1
    heard = audio.decode(answer.content, RATE)
    assert len(heard) == pytest.approx(12 * FRAME, abs=FRAME)
    assert np.abs(heard).max() > 3000


def test_pcm_says_its_rate(qwen: Server) -> None:
    assert post(qwen).headers["x-sample-rate"] == str(RATE)


def test_text_of_any_length_is_spoken_in_sentences(qwen: Server) -> None:
    text = "The quick brown fox jumps over the lazy dog while nobody watches the old clock on the wall of the kitchen. "
    pcm = speak(qwen, text * 30, max_new_tokens=3)
    assert len(pcm) == 2 * FRAME * 3 * 30


def test_speed_is_ignored(qwen: Server) -> None:
    assert speak(qwen, speed=2.0) == speak(qwen)


def test_special_tokens_are_no_text(qwen: Server) -> None:
    assert speak(qwen, "Hello <|im_end|><|im_start|> there.") == speak(qwen, "Hello there.")
    assert speak(qwen, "Hello <|im_<|im_end|>end|> there.") == speak(qwen, "Hello <|im_ end|> there.")
    for stream in (None, "audio", "sse"):  # the engine's own refusal, before the first audio
        param, _ = refusal(qwen, "<|im_end|> <tts_pad>", stream_format=stream)
        assert param == "input"


@pytest.mark.parametrize("text", ["🙂🙂", "...", " - "])
def test_nothing_to_speak(qwen: Server, text: str) -> None:
    silence = np.frombuffer(speak(qwen, text), np.int16)
    assert 0 < len(silence) <= 12_000 and not silence.any()


def test_requests_at_the_same_time_do_not_mix(qwen: Server) -> None:
    asked = [(voice, text) for voice in ("alloy", "echo", "fable") for text in ("Hello there.", "Good night. " * 30)]
    alone = [speak(qwen, text, voice=voice) for voice, text in asked]
    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(lambda entry: speak(qwen, entry[1], voice=entry[0]), asked))
    assert together == alone
    assert len(set(alone)) == len(alone)


async def test_speech_comes_while_it_is_made(qwen: Server) -> None:
    """And what nobody waits for any more is not made."""
    speak(qwen)  # loaded
    triton = Triton(qwen.grpc, Keys())
    sampling = Sampling(temperature=0.0, max_new_tokens=100)
    options: dict[str, Any] = {"voice": "alloy", "speed": 1.0, "language": "", "request_id": "1", "within": 300}
    start = time.monotonic()
    arrivals = []
    async with aclosing(triton.synthesize(MODEL, "Hello there.", sampling=sampling, **options)) as stream:
        async for pcm in stream:
            arrivals.append((time.monotonic() - start, len(pcm)))
    assert [size for _, size in arrivals] == [2 * FRAME * frames for frames in [12] * 8 + [4]]
    assert arrivals[0][0] < arrivals[-1][0] / 3
    whole = arrivals[-1][0]

    long = triton.synthesize(MODEL, "Hello there.\n\n" * 50, sampling=sampling, **options)
    async with aclosing(long):
        await anext(long)
    start = time.monotonic()
    async with aclosing(triton.synthesize(MODEL, "Hi.", sampling=Sampling(max_new_tokens=2), **options)) as stream:
        assert [len(pcm) async for pcm in stream]
    assert time.monotonic() - start < 5 * whole
    await triton.close()


# --- sampling --------------------------------------------------------------------------------------------------------
def test_sampling(qwen: Server) -> None:
    greedy = speak(qwen)
    assert speak(qwen) == speak(qwen, temperature=1e-300) == greedy
    assert speak(qwen, temperature=0.01)
    drawn = {speak(qwen, temperature=1.5, top_k=0, top_p=1.0) for _ in range(3)}
    assert len(drawn) == 3 and greedy not in drawn
    assert speak(qwen, temperature=1.5, top_k=1, repetition_penalty=1.0) == speak(qwen, repetition_penalty=1.0)
    assert len(speak(qwen, max_new_tokens=3)) == 2 * FRAME * 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.5),
        ("top_k", -1),
        ("top_k", 1001),
        ("top_p", 0),
        ("top_p", 1.1),
        ("repetition_penalty", 0.5),
        ("max_new_tokens", 0),
        ("max_new_tokens", 100_000),
    ],
)
def test_sampling_out_of_range(qwen: Server, field: str, value: float) -> None:
    param, message = refusal(qwen, **dict[str, Any]({field: value}))
    assert param == field and "must lie between" in message


def test_sampling_of_the_wrong_type(qwen: Server) -> None:
    response = post(qwen, top_k="many")
    assert (response.status_code, response.json()["error"]["param"]) == (422, "top_k")


# --- voices ----------------------------------------------------------------------------------------------------------
def test_builtin_voices(qwen: Server) -> None:
    assert voices(qwen) == {"alloy": "builtin", "echo": "builtin", "fable": "builtin"}
    with qwen.http() as http:
        listed = http.get("/v1/audio/voices").json()["voices"]
    assert [voice["voice"] for voice in listed if voice["default"] and voice["model"] == MODEL] == ["alloy"]
    assert speak(qwen) == speak(qwen, voice="alloy")
    for clip in BUILTIN.glob("*.wav"):
        assert clip.stat().st_size < 1_500_000
        assert 8 <= len(audio.decode(clip, RATE)) / RATE <= 12


def test_a_clip_counts_from_the_next_request_on(qwen: Server, custom: Path) -> None:
    clip = custom / "team-a" / "jane.wav"
    clip.parent.mkdir()
    assert "team-a/jane" not in voices(qwen)
    shutil.copy(BUILTIN / "fable.wav", clip)
    assert voices(qwen)["team-a/jane"] == "custom"
    first = speak(qwen, voice="team-a/jane")
    clip.write_bytes(wav(3))
    assert speak(qwen, voice="team-a/jane") != first
    clip.unlink()
    assert "team-a/jane" not in voices(qwen)
    assert refusal(qwen, voice="team-a/jane")[0] == "voice"


def test_a_custom_clip_shadows_the_builtin_one(qwen: Server, custom: Path) -> None:
    own = speak(qwen, voice="alloy")
    for suffix in (".wav", ".txt"):
        shutil.copy(BUILTIN / f"echo{suffix}", custom / f"alloy{suffix}")
    assert voices(qwen) == {"alloy": "custom", "echo": "builtin", "fable": "builtin"}
    assert speak(qwen, voice="alloy") == speak(qwen, voice="echo") != own
    for clip in custom.iterdir():
        clip.unlink()
    assert voices(qwen)["alloy"] == "builtin"
    assert speak(qwen, voice="alloy") == own


def test_text_and_language_beside_the_clip(qwen: Server, custom: Path) -> None:
    shutil.copy(BUILTIN / "echo.wav", custom / "me.wav")
    by_sound = speak(qwen, voice="me")
    (custom / "me.txt").write_bytes((BUILTIN / "echo.txt").read_bytes())
    by_text = speak(qwen, voice="me")
    assert by_text == speak(qwen, voice="echo") != by_sound
    (custom / "me.lang").write_text("English\n")
    assert speak(qwen, voice="me") == by_text
    made = {by_text}
    for language in ("German", "zh", "Auto"):
        (custom / "me.lang").write_text(language)
        made.add(speak(qwen, voice="me"))
    assert len(made) == 4
    (custom / "me.lang").write_text("Klingon")
    param, message = refusal(qwen, voice="me")
    assert param == "voice" and "'me'" in message and "Klingon" in message and "German" in message


def test_a_slug_may_say_what_a_clip_does_not(qwen: Server, custom: Path) -> None:
    shutil.copy(BUILTIN / "echo.wav", custom / "me.wav")
    assert speak(qwen, voice="me", model=GERMAN) != speak(qwen, voice="me")
    (custom / "me.lang").write_text("German")
    german = speak(qwen, voice="me")
    (custom / "me.lang").unlink()
    assert speak(qwen, voice="me", model=GERMAN) == german


def test_links_out_of_the_folder_are_skipped(qwen: Server, custom: Path, tmp_path: Path) -> None:
    for suffix in (".wav", ".txt"):
        shutil.copy(BUILTIN / f"echo{suffix}", tmp_path / f"secret{suffix}")
    (custom / "out.wav").symlink_to(tmp_path / "secret.wav")
    (custom / "folder").symlink_to(tmp_path)
    shutil.copy(BUILTIN / "echo.wav", custom / "in.wav")
    (custom / "link.wav").symlink_to(custom / "in.wav")
    assert {name for name, origin in voices(qwen).items() if origin == "custom"} == {"in", "link"}
    assert refusal(qwen, voice="out")[0] == "voice"
    assert refusal(qwen, voice="folder/secret")[0] == "voice"
    by_sound = speak(qwen, voice="in")
    (custom / "in.txt").symlink_to(tmp_path / "secret.txt")
    assert speak(qwen, voice="in") == by_sound == speak(qwen, voice="link")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"RIFF, says the file", "no WAV file"),
        (b"", "no WAV file"),
        (wav(0.5), "0.5 s long, not 1 to 60 s"),
        (wav(61), "61.0 s long"),
        (wav(3, gain=0), "nothing to be heard"),
    ],
    ids=["broken", "empty", "short", "long", "silent"],
)
def test_clips_that_are_of_no_use(qwen: Server, custom: Path, content: bytes, reason: str) -> None:
    (custom / "poor.wav").write_bytes(content)
    param, message = refusal(qwen, voice="poor")
    assert param == "voice" and "'poor'" in message and reason in message


def test_other_rates_and_channels(qwen: Server, custom: Path) -> None:
    (custom / "phone.wav").write_bytes(wav(2, 8_000))
    (custom / "studio.wav").write_bytes(
        audio.encode(np.stack([audio.tone(2, 48_000)] * 2), 48_000, "wav", "pcm_s16le", "stereo")
    )
    assert speak(qwen, voice="phone") and speak(qwen, voice="studio")


def test_unknown_voice_lists_the_catalogue(qwen: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="alloy, echo, fable") as caught:
        qwen.openai().audio.speech.create(model=MODEL, voice="af_heart", input="Hello.")
    assert caught.value.param == "voice"


async def test_a_grpc_client_chooses_the_language(qwen: Server) -> None:
    speak(qwen)  # loaded
    triton = Triton(qwen.grpc, Keys())
    sampling = Sampling(temperature=0.0, max_new_tokens=4)
    options: dict[str, Any] = {"voice": "echo", "sampling": sampling, "speed": 1.0, "request_id": "1", "within": 60}

    async def said(language: str) -> bytes:
        async with aclosing(triton.synthesize(MODEL, "Hello there.", language=language, **options)) as stream:
            return b"".join([pcm async for pcm in stream])

    assert await said("") == await said("en") == await said("English") == speak(qwen, voice="echo")
    assert await said("de-AT") == await said("German") != await said("en")
    with pytest.raises(BadRequest, match=r"'tlh'.*zh, en"):
        await said("tlh")
    await triton.close()


@pytest.mark.parametrize("voice", ["../voices/alloy", "/etc/passwd", "alloy.wav", "./alloy", "alloy\0", "..", ""])
async def test_the_engine_looks_names_up_itself(qwen: Server, voice: str) -> None:
    speak(qwen)  # loaded
    triton = Triton(qwen.grpc, Keys())
    options: dict[str, Any] = {"speed": 1.0, "language": "", "request_id": "1", "within": 60}
    with pytest.raises(BadRequest, match="alloy, echo, fable"):
        async with aclosing(triton.synthesize(MODEL, "Hi.", voice=voice, sampling=Sampling(), **options)) as stream:
            async for _ in stream:
                pass
    await triton.close()


# --- loading ---------------------------------------------------------------------------------------------------------
def test_unloading_ends_the_process(qwen: Server) -> None:
    speak(qwen)
    pid = qwen.engine_pid(MODEL)
    with qwen.http() as http:
        assert http.delete(f"/api/ps/{MODEL}").is_success
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 60, "the engine's process is gone")
    assert speak(qwen)


def test_without_weights(qwen: Server) -> None:
    response = post(qwen, model=ABSENT)
    assert response.status_code == 503
    assert f"talkies pull {ABSENT}" in response.json()["detail"]


@pytest.mark.skipif(Settings().resolved_device != "cpu", reason="there is a GPU")
def test_without_a_gpu(model: Path, tmp_path: Path) -> None:
    with running(tmp_path, **prepare(tmp_path, model)) as server:
        response = post(server)
        assert response.status_code == 503
        assert "needs an NVIDIA GPU with CUDA" in response.json()["detail"]
        assert set(voices(server)) == {"alloy", "echo", "fable"}


def test_the_library_loads_without_a_network_and_hears_who_speaks(model: Path, tmp_path: Path) -> None:
    clips = shutil.copytree(BUILTIN, tmp_path / "clips")
    (clips / "echo.txt").unlink()
    for suffix in (".wav", ".txt"):
        shutil.copy(clips / f"alloy{suffix}", clips / f"same{suffix}")
    shutil.copy(clips / "fable.wav", clips / "unsaid.wav")
    lines = cache.run(default_home(), "qwen3_tts", "load_qwen3_tts.py", [cache.REPOSITORY, model, clips]).splitlines()
    heard = [json.loads(line) for line in lines if line.startswith("{")]
    assert [voice["voice"] for voice in heard] == ["alloy", "echo", "fable", "same", "unsaid", "alloy"]
    # One prompt for the same content, and of four the one that was used least lately had to go.
    assert heard[0]["number"] == heard[3]["number"] == heard[5]["number"]
    assert [voice["kept"] for voice in heard] == [1, 2, 3, 3, 3, 3]
    found = {voice["voice"]: voice for voice in heard}
    alloy, echo, fable = (np.array(found[name]["embedding"]) for name in ("alloy", "echo", "fable"))
    for one, other in ((alloy, echo), (alloy, fable), (echo, fable)):
        assert np.linalg.norm(one - other) > 0.1 * np.linalg.norm(one)
    assert (found["alloy"]["text"], found["echo"]["text"]) == ((clips / "alloy.txt").read_text().strip(), "")
    assert found["alloy"]["codes"] and found["echo"]["codes"] is None
