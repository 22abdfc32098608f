"""Parakeet, Canary and Canary-Qwen through the whole stack, on tiny models in the real file formats."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai import BadRequestError
from talkies.registry import Registry
from talkies.settings import PROJECT, Settings
from talkies.setup import weights
from talkies_kit import wire
from talkies_kit.wire import AsrOptions, Fault, FaultCode

from harness import audio, grpc
from harness.models import cache
from harness.models.lessons import DOUBTFUL, FRAME, INSTEAD, TRANSCRIPTS, TRANSLATIONS, text
from harness.processes import is_alive, resident
from harness.server import Server, default_home, running, wait_until

FOLDERS = {"parakeet": "parakeet", "canary_multitask": "canary", "canary_salm": "salm"}
PARAKEET, CANARY, CANARY_QWEN = "parakeet-tdt-0.6b-v3", "canary-1b-flash", "canary-qwen-2.5b"


@pytest.fixture(scope="module")
def clips(jfk: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two stretches of 3 s, which the tiny models are taught; nobody speaks after the last word, or it would be heard
    again."""
    samples = audio.decode(jfk)
    folder = tmp_path_factory.mktemp("clips")
    paths = []
    for number, start in enumerate((0.3, 7.5)):
        piece = samples[int(start * 16_000) : int((start + 3) * 16_000)].copy()
        last = max(words[-1][2] for (clip, _), words in TRANSCRIPTS.items() if clip == number)
        piece[round(last * FRAME * 16_000) :] = 0
        paths.append(folder / f"{number}.wav")
        paths[-1].write_bytes(audio.encode(piece, 16_000, "wav", "pcm_s16le"))
    return paths


@pytest.fixture(scope="module")
def models(build: Callable[[str], None], clips: list[Path]) -> Path:
    build("nemo")
    return cache.made(default_home(), "nemo", "make_nemo.py", clips)


@pytest.fixture(scope="module")
def nemo(prepared: None, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a shipped entry of each NeMo engine, on the tiny models."""
    data = tmp_path_factory.mktemp("nemo")
    shipped = json.loads((PROJECT / "models.json").read_text())["models"]
    entries = {slug: shipped[slug] for slug in (PARAKEET, CANARY, CANARY_QWEN)}
    for entry in entries.values():
        entry["sources"] = [{"path": str(models / FOLDERS[entry["executor"]])}]
    (data / "models.json").write_text(json.dumps({"models": entries}))
    for model in Registry.load(data / "models.json").values():
        weights.pull(Settings(data_dir=data), model)
    settings = {"MODELS_FILE": str(data / "models.json"), "MAX_LOADED_MODELS": "3", "CPU_THREADS": "1"}
    with running(data, **settings) as server:
        yield server


def transcribe(server: Server, model: str, clip: Path, **options: Any) -> Any:
    """What the OpenAI client makes of the answer."""
    return server.openai().audio.transcriptions.create(model=model, file=clip, **options)


def verbose(server: Server, model: str, clip: Path, **options: Any) -> Mapping[str, Any]:
    answer = transcribe(server, model, clip, response_format="verbose_json", **options).model_dump()
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize("model", [PARAKEET, CANARY])
def test_text_and_times(nemo: Server, clips: list[Path], model: str) -> None:
    for number, clip in enumerate(clips):
        said = TRANSCRIPTS[number, "en"]
        assert transcribe(nemo, model, clip).text == text(said)
        answer = verbose(nemo, model, clip)
        assert answer["text"] == text(said)
        assert answer["duration"] == 3.0
        words = answer["words"]
        assert [word["word"] for word in words] == [word for word, _, _ in said]
        times = [time for word in words for time in (word["start"], word["end"])]
        assert times == sorted(times) and times[0] >= 0 and times[-1] <= 3.0
        for word, (_, start, _) in zip(words, said, strict=True):
            assert word["start"] == pytest.approx(start * FRAME, abs=2 * FRAME)
        sentences = re.findall(r"[^.?]+[.?]", text(said))
        assert [segment["text"] for segment in answer["segments"]] == [sentence.strip() for sentence in sentences]
        assert answer["segments"][0]["start"] == words[0]["start"]
        assert answer["segments"][-1]["end"] == words[-1]["end"]


def test_subtitles(nemo: Server, clips: list[Path]) -> None:
    srt = transcribe(nemo, CANARY, clips[0], response_format="srt")
    assert srt == "1\n00:00:00,000 --> 00:00:01,760\nhello world. how are you?\n"


def test_canary_hears_the_language_it_is_told(nemo: Server, clips: list[Path]) -> None:
    for (number, language), said in TRANSCRIPTS.items():
        answer = verbose(nemo, CANARY, clips[number], language=language)
        assert (answer["text"], answer["language"]) == (text(said), language)
    answer = verbose(nemo, CANARY, clips[0], languages=["de", "en"])
    assert answer["language"] == "en"  # its default, which is among them
    answer = verbose(nemo, CANARY, clips[0], languages=["de", "fr"])
    assert answer["language"] == "de"


@pytest.mark.parametrize(("model", "language"), [(CANARY, "it"), (CANARY_QWEN, "fr")])
def test_other_languages_are_refused(nemo: Server, clips: list[Path], model: str, language: str) -> None:
    with pytest.raises(BadRequestError, match="languages are en"):
        transcribe(nemo, model, clips[0], language=language)


@pytest.mark.parametrize(("source", "target"), [("de", "en"), ("en", "fr")])
def test_canary_translates_and_gives_words_no_times(nemo: Server, clips: list[Path], source: str, target: str) -> None:
    transcribe(nemo, CANARY, clips[0])  # loads it
    options = AsrOptions(language=source, task="translate", target_language=target, word_timestamps=True)
    for number, clip in enumerate(clips):
        (result,) = grpc.stream(nemo, CANARY, grpc.audio(clip.read_bytes()), parameters=options.to_parameters())
        (segment,) = wire.load_segments(grpc.text(result, wire.SEGMENTS))
        assert segment.text.strip() == TRANSLATIONS[number, source, target]
        assert (segment.start, segment.end, segment.words) == (0.0, 3.0, ())


def test_sixteen_requests_at_once_keep_their_own_languages(nemo: Server, clips: list[Path]) -> None:
    asked = list(itertools.product(TRANSCRIPTS, ("json", "verbose_json")))
    transcribe(nemo, CANARY, clips[0])  # loaded, so that they meet in batches

    def ask(entry: tuple[tuple[int, str], str]) -> str:
        (number, language), form = entry
        return str(transcribe(nemo, CANARY, clips[number], language=language, response_format=form).text)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, asked))
    assert len(asked) == 16
    assert answers == [text(TRANSCRIPTS[key]) for key, _ in asked]


def test_parakeet_listens_for_the_phrases_of_the_prompt(nemo: Server, clips: list[Path]) -> None:
    plain = text(TRANSCRIPTS[1, "en"])
    prompts = ["", "Kubernetes, fox", "", "lazy fox\nquartz", "☃, 東京", "fox"] * 3
    with ThreadPoolExecutor(len(prompts)) as pool:
        answers = list(pool.map(lambda prompt: transcribe(nemo, PARAKEET, clips[1], prompt=prompt).text, prompts))
    assert answers == [plain.replace(DOUBTFUL, INSTEAD) if "fox" in prompt else plain for prompt in prompts]


def test_canary_qwen_tells_no_times(nemo: Server, clips: list[Path], tmp_path: Path) -> None:
    said = [transcribe(nemo, CANARY_QWEN, clip).text for clip in clips]
    assert all(said) and said[0] != said[1]
    answer = verbose(nemo, CANARY_QWEN, clips[0])
    assert (answer["text"], answer["segments"], answer["words"]) == (said[0], [], [])
    lines = transcribe(nemo, CANARY_QWEN, clips[0], response_format="srt").splitlines()
    assert lines[:2] == ["1", "00:00:00,000 --> 00:00:03,000"]
    assert " ".join(lines[2:]).split() == said[0].split()
    assert "00:00:00.000 --> 00:00:03.000" in transcribe(nemo, CANARY_QWEN, clips[0], response_format="vtt")


def test_canary_qwen_joins_the_chunks_of_a_long_file(nemo: Server, jfk: Path, tmp_path: Path) -> None:
    speech = audio.decode(jfk)
    long = tmp_path / "long.wav"
    pause = np.zeros(16_000 * 2, np.int16)
    long.write_bytes(audio.encode(np.concatenate([speech, pause] * 3), 16_000, "wav", "pcm_s16le"))
    answer = verbose(nemo, CANARY_QWEN, long)
    assert answer["duration"] == pytest.approx(39, abs=0.1)
    assert answer["segments"] == [] and len(answer["text"]) > 100
    assert transcribe(nemo, CANARY_QWEN, long, response_format="srt").count("-->") == 1


@pytest.mark.parametrize(
    ("model", "options", "param"),
    [
        (CANARY, AsrOptions(language="it"), "language"),
        (CANARY, AsrOptions(language="en", task="translate", target_language="it"), "target_language"),
        (PARAKEET, AsrOptions(task="translate"), "task"),
        (CANARY_QWEN, AsrOptions(language="de"), "language"),
        (CANARY, AsrOptions(languages=("de", "it")), "languages"),
        (CANARY_QWEN, AsrOptions(languages=("en", "de")), "languages"),
    ],
)
def test_engines_refuse_what_the_facade_would(
    nemo: Server, clips: list[Path], model: str, options: AsrOptions, param: str
) -> None:
    transcribe(nemo, model, clips[0])  # loads it
    (result,) = grpc.stream(nemo, model, grpc.audio(clips[0].read_bytes()), parameters=options.to_parameters())
    fault = Fault.load(grpc.text(result, wire.ERROR))
    assert fault and (fault.code, fault.param) == (FaultCode.INVALID, param)


def _has_ended(pid: int) -> bool:
    return not is_alive(pid)


def test_unloading_ends_the_process(nemo: Server, clips: list[Path]) -> None:
    for model in (PARAKEET, CANARY_QWEN):
        transcribe(nemo, model, clips[0])
        pid = nemo.engine_pid(f"{model}.engine")
        assert resident(pid) > 300  # NeMo is in there
        with nemo.http() as http:
            assert http.delete(f"/api/ps/{model}").status_code == 200
        wait_until(partial(_has_ended, pid), 60, f"the end of {model}'s process")


def test_models_load_without_a_network(models: Path, clips: list[Path]) -> None:
    printed = cache.run(default_home(), "nemo", "load_nemo.py", [PROJECT / "model_repository", models, clips[0]])
    answers = [json.loads(line) for line in printed.splitlines() if line.startswith("[")]  # libraries print too
    found = {engine: (language, texts) for engine, language, texts in answers}
    assert found["parakeet"] == ("", ["hello world.", "how are you?"])
    assert found["canary_multitask"] == ("en", ["hello world.", "how are you?"])
    assert found["canary_salm"][0] == "en" and len(found["canary_salm"][1]) == 1
