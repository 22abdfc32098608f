"""Two channels and `stream=true` through the real tritonserver, with OpenAI's client and without."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from harness import audio
from harness.server import JFK_TEXT, Server, wait_until
from harness.words import normalize, wer

MODEL = "whisper-base"
FOX = "Seven quiet gardeners walked along the river and counted eleven yellow boats. "
ROUNDS = 4
TIMES = 22


@pytest.fixture(scope="module")
def dialogue(server: Server, jfk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Over a minute of two people who take turns: the president on the left, Kokoro on the right."""
    body = {"model": "kokoro-82m", "input": FOX, "response_format": "wav", "voice": "af_heart"}
    with server.http() as http:
        left, right = audio.decode(jfk), audio.decode(http.post("/v1/audio/speech", json=body).content)
    pause = np.zeros(16_000, np.int16)
    turn = [np.concatenate([left, pause, np.zeros_like(right), pause])]
    turn.append(np.concatenate([np.zeros_like(left), pause, right, pause]))
    path = tmp_path_factory.mktemp("dialogue") / "dialogue.flac"
    path.write_bytes(audio.encode(np.tile(np.stack(turn), ROUNDS), 16_000, "flac", "flac", "stereo"))
    return path


@contextlib.contextmanager
def streaming(server: Server, path: Path, **fields: Any) -> Iterator[httpx.Response]:
    files = {"file": (path.name, path.read_bytes())}
    data = {"model": MODEL, "stream": "true", **fields}
    with server.http() as http, http.stream("POST", "/v1/audio/transcriptions", files=files, data=data) as response:
        yield response


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """As the specification of server-sent events has it, strictly."""
    data = ""
    for line in response.iter_lines():
        if line.startswith("data: "):
            data += line.removeprefix("data: ")
        elif not line and data:
            yield json.loads(data)
            data = ""
        else:
            assert line == "" or line.startswith(":"), line
    assert not data


def stream(server: Server, path: Path, **fields: Any) -> list[dict[str, Any]]:
    with streaming(server, path, **fields) as response:
        assert response.status_code == 200, response.read()
        return list(events(response))


def deltas(made: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in made if event["type"] == "transcript.text.delta")


# --- two channels ----------------------------------------------------------------------------------------------------


def test_each_channel_has_its_own_text(server: Server, dialogue: Path) -> None:
    result = server.transcribe(dialogue, diarization="true", response_format="verbose_json").json()
    for channel, text in (("L", JFK_TEXT), ("R", FOX)):
        said = [segment["text"] for segment in result["segments"] if segment["channel"] == channel]
        assert wer([text * ROUNDS], [" ".join(said)]) <= 0.1
        words = [word["word"] for word in result["words"] if word["channel"] == channel]
        assert normalize("".join(words)) == normalize(" ".join(said))
    starts = [segment["start"] for segment in result["segments"]]
    assert starts == sorted(starts)
    assert [segment["id"] for segment in result["segments"]] == list(range(len(starts)))
    lines = result["text"].splitlines()
    assert [line[:3] for line in lines] == ["L: ", "R: "] * ROUNDS
    assert all(wer([JFK_TEXT if line[0] == "L" else FOX], [line[3:]]) <= 0.15 for line in lines)


def test_a_recorded_dialogue(server: Server, shared_audio: Path) -> None:
    path = shared_audio / "dialogue" / "stereo_diarization.flac"
    spoken = {
        "L": "He began a confused complaint against the wizard, who had vanished behind the curtain on the left.",
        "R": "The horizon seems extremely distant.",
    }
    lines = server.transcribe(path, diarization="true", response_format="text").text.splitlines()
    assert [line[:3] for line in lines] == ["L: ", "R: "]
    assert all(wer([spoken[line[0]]], [line[3:]]) <= 0.06 for line in lines)
    result = server.transcribe(path, diarization="true", response_format="verbose_json").json()
    assert {word["channel"] for word in result["words"]} == {"L", "R"}
    cues = server.transcribe(path, diarization="true", response_format="srt").text
    assert "\nL: He began" in cues and "\nR: The horizon" in cues


def test_the_same_on_both_channels_and_nothing_on_one(server: Server, jfk: Path, tmp_path: Path) -> None:
    samples = audio.decode(jfk)
    path = tmp_path / "one.flac"
    path.write_bytes(audio.encode(np.stack([samples, np.zeros_like(samples)]), 16_000, "flac", "flac", "stereo"))
    result = server.transcribe(path, response_format="diarized_json").json()
    assert {segment["speaker"] for segment in result["segments"]} == {"L"}
    assert wer([JFK_TEXT], [result["text"]]) <= 0.1


def test_diarized_json_through_the_client(server: Server, dialogue: Path) -> None:
    result = server.openai().audio.transcriptions.create(
        model="gpt-4o-mini-transcribe",
        file=dialogue,
        response_format="diarized_json",
        known_speaker_names=["Jack", "Jill"],
        known_speaker_references=["data:audio/wav;base64," + "A" * 300_000] * 2,
        chunking_strategy={"type": "server_vad", "threshold": 0.5},
        extra_body={"language": "en"},
    )
    assert result.task == "transcribe"
    assert result.usage and result.usage.type == "duration"
    assert result.usage.seconds == result.duration == pytest.approx(audio.decode(dialogue).size / 16_000, abs=0.05)
    assert {segment.speaker for segment in result.segments} == {"Jack", "Jill"}
    assert len({segment.id for segment in result.segments}) == len(result.segments)
    assert "L:" not in result.text and "\n" not in result.text
    assert normalize(" ".join(segment.text for segment in result.segments)) == normalize(result.text)


@pytest.mark.parametrize("fields", [{"response_format": "diarized_json"}, {"diarization": "true"}])
@pytest.mark.parametrize("streamed", ["true", "false"])
def test_two_channels_and_no_others(server: Server, tmp_path: Path, fields: dict[str, str], streamed: str) -> None:
    for channels, layout in ((1, "mono"), (6, "5.1")):
        path = tmp_path / f"{channels}.flac"
        path.write_bytes(audio.encode(np.stack([audio.tone(2)] * channels), 16_000, "flac", "flac", layout))
        response = server.transcribe(path, stream=streamed, **fields)
        assert response.status_code == 400
        assert f"{channels} channel" in response.json()["detail"]
        assert response.json()["error"]["param"] == "diarization"


# --- events ----------------------------------------------------------------------------------------------------------


def test_through_the_client(server: Server, jfk: Path) -> None:
    made = list(server.openai().audio.transcriptions.create(model=MODEL, file=jfk, stream=True))
    *parts, done = made
    assert done.type == "transcript.text.done"
    assert all(part.type == "transcript.text.delta" for part in parts)
    assert "".join(part.delta for part in parts) == done.text  # type: ignore[union-attr]
    assert wer([JFK_TEXT], [done.text]) <= 0.1


def test_a_long_file_comes_bit_by_bit(server: Server, dialogue: Path) -> None:
    server.transcribe(dialogue)  # the model is loaded before the clock runs
    started = time.monotonic()
    with streaming(server, dialogue, response_format="text") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["transfer-encoding"] == "chunked"
        assert response.headers["x-accel-buffering"] == "no"
        made, times = [], []
        for event in events(response):
            made.append(event)
            times.append(time.monotonic() - started)
    assert deltas(made) == made[-1]["text"]
    assert made[-1]["usage"]["seconds"] > 60
    assert wer([(JFK_TEXT + FOX) * ROUNDS], [made[-1]["text"]]) <= 0.1
    assert len(made) > 2


def test_verbose_json_ends_with_its_fields(server: Server, jfk: Path) -> None:
    done = stream(server, jfk, response_format="verbose_json")[-1]
    whole = server.transcribe(jfk, response_format="verbose_json").json()
    assert done == {"type": "transcript.text.done", "usage": done["usage"], **whole}


def test_turns_are_streamed_in_order(server: Server, dialogue: Path) -> None:
    made = stream(server, dialogue, diarization="true")
    lines = deltas(made).splitlines()
    assert deltas(made) == made[-1]["text"]
    assert [line[:3] for line in lines] == ["L: ", "R: "] * ROUNDS
    assert sum(wer([JFK_TEXT if line[0] == "L" else FOX], [line[3:]]) for line in lines) / len(lines) <= 0.1


def test_diarized_segments_are_streamed_in_order(server: Server, dialogue: Path) -> None:
    made = list(
        server.openai().audio.transcriptions.create(
            model=MODEL, file=dialogue, stream=True, response_format="diarized_json", known_speaker_names=["Ann"]
        )
    )
    segments = [event for event in made if event.type == "transcript.text.segment"]
    parts = [event for event in made if event.type == "transcript.text.delta"]
    done = made[-1]
    assert done.type == "transcript.text.done"
    assert [part.segment_id for part in parts] == [segment.id for segment in segments]
    assert "".join(part.delta for part in parts) == done.text
    starts = [segment.start for segment in segments]
    assert starts == sorted(starts)
    for speaker, text in (("Ann", JFK_TEXT), ("R", FOX)):
        own = [segment for segment in segments if segment.speaker == speaker]
        assert wer([text * ROUNDS], [" ".join(segment.text for segment in own)]) <= 0.1
        assert all(a.end <= b.start for a, b in pairwise(own))


def test_what_cannot_be_streamed_is_an_ordinary_answer(server: Server, jfk: Path, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.bin"
    garbage.write_bytes(bytes(range(256)) * 40)
    with pytest.raises(openai.BadRequestError) as caught:
        server.openai().audio.transcriptions.create(model=MODEL, file=garbage, stream=True)
    assert caught.value.param == "file"
    response = server.transcribe(jfk, stream="true", response_format="srt")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "response_format")
    assert list((server.data / "uploads").iterdir()) == []


def test_silence_is_one_event(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    path.write_bytes(audio.encode(np.zeros(48_000, np.int16), 16_000, "wav", "pcm_s16le"))
    (done,) = stream(server, path)
    assert (done["text"], done["usage"]["seconds"]) == ("", 3.0)


def test_hanging_up_frees_the_place(server: Server, dialogue: Path, minutes: Path) -> None:
    for path, wait_for_a_word in ((dialogue, False), (minutes, True)):
        with streaming(server, path) as response:
            made = events(response)
            if wait_for_a_word:
                assert next(made)["delta"]
                assert server.loaded()[MODEL]["active_requests"] == 1
        wait_until(lambda: server.loaded()[MODEL]["active_requests"] == 0, 60, "the place is free")
        assert list((server.data / "uploads").iterdir()) == []


@pytest.fixture(scope="module")
def minutes(jfk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four minutes of the president: more chunks than an engine takes at once."""
    path = tmp_path_factory.mktemp("long") / "minutes.flac"
    path.write_bytes(audio.encode(np.tile(audio.decode(jfk), TIMES), 16_000, "flac", "flac"))
    return path


def kill_engine(server: Server) -> None:
    os.kill(server.engine_pid(f"{MODEL}.engine"), signal.SIGKILL)


def test_a_killed_engine_costs_no_word(server: Server, minutes: Path) -> None:
    made: list[dict[str, Any]] = []
    with streaming(server, minutes, response_format="verbose_json") as response:
        for event in events(response):
            if not made:
                kill_engine(server)
            made.append(event)
    assert made[-1]["type"] == "transcript.text.done", made[-1]
    assert deltas(made) == made[-1]["text"]
    assert "replacing dead engine" in server.log()
    # A chunk that is lost would be 27 s without a word.
    words = made[-1]["words"]
    spoken = [0.0, *(time for word in words for time in (word["start"], word["end"])), made[-1]["duration"]]
    assert max(later - earlier for earlier, later in pairwise(spoken)) < 20


def test_an_engine_that_dies_twice_is_the_last_event(server: Server, minutes: Path, jfk: Path) -> None:
    with streaming(server, minutes) as response:
        made = events(response)
        assert next(made)["type"] == "transcript.text.delta"
        first = server.engine_pid(f"{MODEL}.engine")
        kill_engine(server)

        def replaced() -> bool:
            with contextlib.suppress(LookupError):
                return server.engine_pid(f"{MODEL}.engine") != first and server.loaded()[MODEL]["active_requests"] == 1
            return False

        wait_until(replaced, 60, "another engine")
        time.sleep(0.5)
        kill_engine(server)
        last = list(made)[-1]
    assert response.status_code == 200
    assert last["error"]["code"] == "engine_died"
    assert last["detail"] == last["error"]["message"]
    assert server.transcribe(jfk).json()["text"]
