"""No sentence is lost, nothing is invented, and a file keeps its own clock: what other people reported as bugs."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent
from talkies import languages
from talkies.settings import PROJECT

from harness import audio
from harness.joined import join, repeated, sets
from harness.server import ASR, Server
from harness.words import lost, normalize, transcripts

CLIPS = PROJECT / "tests" / "data" / "librispeech"
FELLOW = "my fellow americans"
ASK = "ask not what your country can do for you"
PROMPTS = [
    "",
    "The assistant is called Jarvix. Glossary: Kubernetes, Istio, Prometheus.",
    "Hello, welcome to my lecture.",
    "Transcribe exactly what is said.",
]


def ask(server: Server, data: bytes, **fields: Any) -> httpx.Response:
    with server.http() as http:
        return http.post("/v1/audio/transcriptions", files={"file": ("a", data)}, data={"model": ASR, **fields})


def verbose(server: Server, data: bytes, **fields: Any) -> Any:
    answer = ask(server, data, response_format="verbose_json", **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def missing(server: Server, made: list[tuple[list[str], bytes]]) -> list[str]:
    return [sentence for texts, data in made for sentence in lost(texts, ask(server, data).json()["text"])]


def test_no_sentence_is_lost(server: Server) -> None:
    made = sets(transcripts(CLIPS, ""), seed=12, count=8)
    assert missing(server, made) == []


def test_no_sentence_of_forty_clips_is_lost(server: Server, shared_audio: Path) -> None:
    made = sets(transcripts(shared_audio, "librispeech"), seed=12, count=40)
    assert missing(server, made) == []


def test_what_is_said_again_and_again_is_not_mended(server: Server) -> None:
    """Whisper takes a text that repeats itself for one that runs in circles."""
    made = repeated(transcripts(CLIPS, ""), seed=14, count=4)
    assert missing(server, made) == []


def test_what_is_said_twice_is_heard_twice_and_no_more(server: Server, jfk: Path) -> None:
    clip = (jfk, "en", "")
    text = normalize(ask(server, join([clip, clip], [1.5])).json()["text"])
    assert text.count("my fellow america") == 2 and 3 <= text.count("countr") <= 4


def test_each_stretch_is_heard_in_its_own_language(server: Server, shared_audio: Path) -> None:
    (english, *_), (german, *_), (french, *_) = (
        transcripts(shared_audio, f"fleurs/fleurs-{language}") for language in ("en", "de", "fr")
    )
    order = [english, german, french, english]
    found = verbose(server, join(order, [0.6, 0.6, 0.6]))
    assert found["language"] == "en"
    assert lost([text for _, _, text in order], found["text"]) == []


@pytest.mark.parametrize("named", [["de", "fr"], ["es", "en"], ["en-US", "german", "fr"]])
def test_a_language_is_one_of_those_that_are_named(server: Server, jfk: Path, named: list[str]) -> None:
    found = verbose(server, jfk.read_bytes(), **{"languages[]": named})
    assert found["language"] in {languages.find(name, ("de", "en", "es", "fr")) for name in named}
    if found["language"] == "en":
        assert ASK in normalize(found["text"])


@pytest.mark.parametrize("model", [ASR, "whisper-1"])
def test_each_token_is_rated(server: Server, model: str) -> None:
    """Of several chunks, in pieces and whole; a plain request is told of none."""
    clips = transcripts(CLIPS, "")
    data = join(clips, [1.5] * (len(clips) - 1))
    create = partial(server.openai().audio.transcriptions.create, model=model, file=("a", data))
    plain, whole = create(), create(include=["logprobs"])
    *deltas, done = create(include=["logprobs"], stream=True)
    assert plain.logprobs is None and plain.text == whole.text
    assert rated(whole) == whole.text and len(deltas) > 3
    for delta in deltas:
        assert isinstance(delta, TranscriptionTextDeltaEvent) and rated(delta) == delta.delta
    assert isinstance(done, TranscriptionTextDoneEvent) and rated(done) == done.text == whole.text
    found = [token.logprob for token in whole.logprobs or () if token.logprob is not None]
    assert all(-100 < logprob <= 0 for logprob in found)
    segments = verbose(server, data, model="whisper-1")["segments"]
    mean = np.average([s["avg_logprob"] for s in segments], weights=[len(s["text"]) for s in segments])
    assert np.mean(found) == pytest.approx(mean, abs=0.2)


def rated(answer: Any) -> str:
    """The text of the answer's tokens."""
    return b"".join(bytes(map(int, token.bytes)) for token in answer.logprobs).decode()


def test_speech_without_words_is_a_metric(server: Server, jfk: Path) -> None:
    assert ask(server, jfk.read_bytes()).status_code == 200
    metrics = httpx.get(f"http://127.0.0.1:{server.metrics_port}/metrics").text
    assert re.search(rf'^talkies_unheard_speech_seconds_total{{.*model="{ASR}".*}} \d', metrics, re.MULTILINE)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_no_prompt_is_heard_where_nobody_speaks(server: Server, prompt: str) -> None:
    chance = np.random.default_rng(5)
    time = np.arange(16_000 * 6) / 16_000
    sounds = {
        "silence": np.zeros(len(time)),
        "white noise": chance.normal(0, 6000, len(time)),
        "brown noise": np.cumsum(chance.normal(0, 100, len(time))),
        "clicks": 20_000 * (chance.random(len(time)) < 0.0005),
        "chords": sum(4000 * np.sin(2 * np.pi * hertz * time) for hertz in (220.0, 277.2, 329.6)),
    }
    for name, samples in sounds.items():
        file = audio.encode(np.clip(samples, -32768, 32767).astype(np.int16), 16_000, "wav", "pcm_s16le")
        assert (name, ask(server, file, prompt=prompt).json()["text"]) == (name, "")


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("name", ["noise5.flac", "music_vibe_ace.ogg", "silence_10s.flac"])
def test_no_words_are_made_of_noise(server: Server, shared_audio: Path, name: str, prompt: str) -> None:
    data = (shared_audio / "noise" / name).read_bytes()
    for _ in range(5):
        assert ask(server, data, prompt=prompt).json()["text"] == ""


@pytest.mark.parametrize("decibels", [-30, -50, -60])
@pytest.mark.parametrize("codec", ["pcm_s24le", "pcm_f32le"])
def test_a_quiet_recording_is_heard(server: Server, jfk: Path, decibels: int, codec: str) -> None:
    file = audio.encode_float(10 ** (decibels / 20) * audio.decode(jfk) / 32768, 16_000, "wav", codec)
    assert ASK in normalize(ask(server, file).json()["text"])


def test_channels_out_of_phase_are_heard(server: Server, jfk: Path) -> None:
    left = audio.decode(jfk)
    file = audio.encode(np.stack([left, -left]), 16_000, "flac", "flac", "stereo")
    assert ASK in normalize(ask(server, file).json()["text"])


def test_an_offset_changes_no_times(server: Server, jfk: Path) -> None:
    samples = audio.decode(jfk)
    plain = audio.encode(samples, 16_000, "flac", "flac")
    shifted = audio.encode(np.clip(samples + 9830.0, -32768, 32767).astype(np.int16), 16_000, "flac", "flac")
    one, other = ([s["start"] for s in verbose(server, file)["segments"]] for file in (plain, shifted))
    assert one == pytest.approx(other, abs=0.2)


@pytest.mark.parametrize("size", [2_000_000_000, 1 << 30, 104_857_600, 0, 0xFFFFFFFF])
def test_a_size_that_was_not_known(server: Server, jfk: Path, size: int) -> None:
    file = bytearray(audio.encode(audio.decode(jfk), 16_000, "wav", "pcm_s16le"))
    at = file.index(b"data")
    file[at + 4 : at + 8] = size.to_bytes(4, "little")
    assert ASK in normalize(ask(server, bytes(file)).json()["text"])


# What people sent, and what is right.


def field(shared_audio: Path, name: str) -> bytes:
    path = shared_audio / "field" / name
    if not path.is_file():
        pytest.skip("the files of the field are not beside this checkout")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        ("asr_second_sentence_lost.ogg", ["physiological action", "may be given in cases of narcotic poisoning"]),
        (
            "asr_two_of_three_sentences_lost.ogg",
            ["duty of the doctor", "repeated poetry but now and my lady heard him"],
        ),
        ("asr_short_answer_lost.ogg", ["how much shocked i was", "the fireman i tell thee the truth"]),
        ("asr_chained_ogg_second_link_lost.ogg", ["that account of himself", FELLOW, ASK]),
        ("ogg_granule_starts_at_one_hour.ogg", [FELLOW, ASK]),
        ("wav_placeholder_size_2000000000.wav", [FELLOW]),
        ("stereo_antiphase.flac", [FELLOW, ASK]),
        ("quiet_24bit_minus50dB.wav", [FELLOW, "ask not"]),
        ("english_then_german_20s.ogg", ["begin with a capital letter", "alles an was ins wasser kam"]),
    ],
)
def test_the_whole_of_what_people_sent(server: Server, shared_audio: Path, name: str, sentences: list[str]) -> None:
    found = verbose(server, field(shared_audio, name))
    text = normalize(found["text"])
    assert all(sentence in text for sentence in sentences), text
    assert found["words"][-1]["end"] <= found["duration"]


def test_a_hole_in_webm(server: Server, shared_audio: Path) -> None:
    found = verbose(server, field(shared_audio, "webm_with_10s_gap.webm"))
    assert found["duration"] == pytest.approx(21.1, abs=0.1)
    later = [word["start"] for word in found["words"] if word["start"] > 6]
    assert later and min(later) == pytest.approx(15.1, abs=0.5)


def test_a_hole_in_mp4(server: Server, shared_audio: Path) -> None:
    found = verbose(server, field(shared_audio, "mp4_with_10s_gap.mp4"))
    assert found["duration"] == pytest.approx(21.0, abs=0.1)
    assert found["words"][-1]["end"] == pytest.approx(20.4, abs=0.4)
    assert not any(6.2 < word["start"] < 14.8 for word in found["words"])
