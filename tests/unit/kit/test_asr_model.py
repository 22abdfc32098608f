"""The ASR base class: grouping, times of the file, faults as data, and no request that spoils another."""

from __future__ import annotations

import importlib
import json
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from talkies_kit import engine, wire
from talkies_kit.wire import AsrOptions, Fault, FaultCode, Segment, Word

SECRET = "what was said"


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


class Request:
    def __init__(
        self, samples: int = 160, start: float = 0.0, id_: str = "", cancelled: bool = False, **parameters: Any
    ):
        self.tensors = {wire.PCM: np.full((1, samples), 16_384, np.int16), wire.START: np.array([[start]], np.float32)}
        self.id, self.cancelled, self.options = id_, cancelled, parameters

    def parameters(self) -> str:
        return json.dumps(self.options) if self.options else ""

    def request_id(self) -> str:
        return self.id

    def is_cancelled(self) -> bool:
        return self.cancelled


@pytest.fixture
def asr(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    backend = types.ModuleType("triton_python_backend_utils")
    backend.get_input_tensor_by_name = lambda r, name: Tensor(name, r.tensors[name])  # type: ignore[attr-defined]
    backend.Tensor = Tensor  # type: ignore[attr-defined]
    backend.InferenceResponse = list  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, backend.__name__, backend)
    monkeypatch.delitem(sys.modules, "talkies_kit.asr", raising=False)
    monkeypatch.setattr(engine, "die_with_parent", lambda: None)
    yield importlib.import_module("talkies_kit.asr")
    sys.modules.pop("talkies_kit.asr", None)


@pytest.fixture
def model(asr: types.ModuleType) -> Any:
    """Says how long a stretch is; the prompts "bad" and "bug" and a stretch of 666 samples make it fail."""

    base: Any = asr.AsrModel

    class Model(base):
        def load(self, config: engine.EngineConfig) -> None:
            self.batches: list[list[Any]] = []

        def transcribe(self, batch: Sequence[Any]) -> Sequence[Any]:
            self.batches.append(list(batch))
            for stretch in batch:
                if stretch.options.prompt == "bad":
                    raise wire.InvalidInput("no such language", "language")
                if len(stretch.samples) == 666:
                    raise ValueError(SECRET)
            return [
                asr.Hypothesis("en", [Segment(0.5, 1.0, f" {len(s.samples)}", (Word(" w", 0.5, 1.0),))]) for s in batch
            ]

    model = Model()
    model.initialize({"model_config": json.dumps({"name": "m"})})
    return model


def run(model: Any, *requests: Request) -> list[tuple[list[Segment], str, Fault | None]]:
    answers = []
    for response in model.execute(list(requests)):
        texts = {tensor.name: tensor.array for tensor in response}
        assert all(array.shape == (1, 1) for array in texts.values())
        segments, language, error = (texts[name][0, 0] for name in (wire.SEGMENTS, wire.LANGUAGE, wire.ERROR))
        answers.append((wire.load_segments(segments), language, Fault.load(error)))
    return answers


def test_times_are_the_files(model: Any) -> None:
    [(segments, language, fault)] = run(model, Request(start=100.0))
    assert segments == [Segment(100.5, 101.0, " 160", (Word(" w", 100.5, 101.0),))]
    assert (language, fault) == ("en", None)


def test_stretches_of_like_options_are_one_batch_and_answers_keep_their_places(model: Any) -> None:
    requests = [Request(1, language="de"), Request(2), Request(3, language="de"), Request(4)]
    answers = run(model, *requests)
    assert [segments[0].text for segments, _, _ in answers] == [" 1", " 2", " 3", " 4"]
    assert [[len(s.samples) for s in batch] for batch in model.batches] == [[1, 3], [2, 4]]
    assert model.batches[0][0].options == AsrOptions(language="de")


def test_samples_are_floats_and_the_file_is_the_requests_id(model: Any) -> None:
    run(model, Request(id_="f"))
    (stretch,) = model.batches[0]
    assert stretch.samples.dtype == np.float32 and stretch.samples.max() == 0.5
    assert (stretch.file, stretch.seconds) == ("f", 0.01)


def test_no_samples_and_cancelled_requests_reach_no_engine(model: Any) -> None:
    assert run(model, Request(0), Request(cancelled=True)) == [([], "", None)] * 2
    assert model.batches == []


def test_one_request_spoils_no_other(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    answers = run(model, Request(1), Request(666), Request(3), Request(4, prompt="bad"), Request(5, temperature="x"))
    assert [bool(segments) for segments, _, _ in answers] == [True, False, True, False, False]
    bug, bad, wrong = answers[1][2], answers[3][2], answers[4][2]
    assert bug and bug.code is FaultCode.INTERNAL and SECRET not in bug.message and "Traceback" not in bug.message
    assert bad == Fault(FaultCode.INVALID, "no such language", "language")
    assert wrong and (wrong.code, wrong.param) == (FaultCode.INVALID, "temperature")
    assert "ValueError" in caplog.text and "test_asr_model.py" in caplog.text and SECRET not in caplog.text


def test_a_fault_of_one_file_stays_its_own_when_options_are_mixed(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "group", lambda options: None)
    answers = run(model, Request(1), Request(2, prompt="bad"), Request(3))
    assert [fault.code if fault else None for _, _, fault in answers] == [None, FaultCode.INVALID, None]
