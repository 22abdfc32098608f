"""The ASR base class: grouping, times of the file, faults as data, and no request that spoils another."""

from __future__ import annotations

import importlib
import json
import sys
import types
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from talkies_kit import cuda, engine, wire
from talkies_kit.wire import AsrOptions, Fault, FaultCode, Segment, Word

SECRET = "what was said"


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


class Request:
    def __init__(
        self,
        samples: int = 160,
        start: float = 0.0,
        id_: str = "",
        cancelled: bool = False,
        speech: Sequence[int] | None = None,
        **parameters: Any,
    ):
        self.tensors = {wire.PCM: np.full((1, samples), 16_384, np.int16), wire.START: np.array([[start]], np.float32)}
        if speech is not None:
            self.tensors[wire.SPEECH] = np.array([speech], np.uint8)
        self.id, self.cancelled, self.options = id_, cancelled, parameters

    def parameters(self) -> str:
        return json.dumps(self.options) if self.options else ""

    def request_id(self) -> str:
        return self.id

    def is_cancelled(self) -> bool:
        return self.cancelled


class Metric:
    def __init__(self, family: MetricFamily, labels: dict[str, str]) -> None:
        self.family, self.labels, self.value = weakref.ref(family), labels, 0.0

    def increment(self, value: float) -> None:
        assert self.family(), "Triton refuses a metric whose family is gone"
        self.value += value


class MetricFamily:
    COUNTER = "counter"

    def __init__(self, name: str, description: str, kind: str) -> None:
        self.name = name

    def Metric(self, labels: dict[str, str]) -> Metric:
        return Metric(self, labels)


@pytest.fixture
def asr(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    backend = types.ModuleType("triton_python_backend_utils")
    backend.get_input_tensor_by_name = (  # type: ignore[attr-defined]
        lambda r, name: Tensor(name, r.tensors[name]) if name in r.tensors else None
    )
    backend.Tensor = Tensor  # type: ignore[attr-defined]
    backend.InferenceResponse = list  # type: ignore[attr-defined]
    backend.MetricFamily = MetricFamily  # type: ignore[attr-defined]
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
                asr.Hypothesis("en", [Segment(0.5, 1.0, f" {len(s.samples)}", (Word(" w", 0.5, 1.0),))], unheard=0.25)
                for s in batch
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


def test_where_somebody_speaks_is_told_or_not_known(model: Any) -> None:
    run(model, Request(1024, speech=[0, 1]), Request(1024))
    told, unknown = model.batches[0]
    assert told.speech.dtype == np.bool_ and told.speech.tolist() == [False, True]
    assert unknown.speech is None


def test_no_samples_and_cancelled_requests_reach_no_engine(model: Any) -> None:
    assert run(model, Request(0), Request(cancelled=True)) == [([], "", None)] * 2
    assert model.batches == []


def test_speech_without_words_is_counted(model: Any) -> None:
    run(model, Request(1), Request(666), Request(3))
    counter = model._unheard
    assert (counter.value, counter.labels) == (0.5, {"model": "m"})


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


class OutOfMemoryError(RuntimeError):
    """As torch's."""


@given(st.integers(1, 24), st.integers(1, 24), st.sets(st.integers(0, 23)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
def test_batches_shrink_to_what_the_gpu_holds(model: Any, size: int, room: int, bad: set[int]) -> None:
    """Of any number of requests, on a GPU with room for any number, some bad: all others are answered, in order."""
    tried: list[int] = []

    def transcribe(batch: Sequence[Any]) -> Sequence[Any]:
        tried.append(len(batch))
        if len(batch) > room:
            raise OutOfMemoryError("CUDA out of memory.")
        return type(model).transcribe(model, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "transcribe", transcribe)
        patch.setattr(model, "_most", 1 << 30)
        patch.setattr(cuda, "free", lambda: None)  # it takes its time in a process as large as this one
        for _ in range(2):
            tried.clear()
            answers = run(model, *(Request(666 if i in bad else i + 1) for i in range(size)))
            for i, (segments, _, fault) in enumerate(answers):
                assert bool(fault) == (i in bad)
                assert i in bad or segments[0].text == f" {i + 1}"
        assert max(tried) <= room  # it remembers


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(0, 5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
def test_what_fails_after_a_full_gpu_is_tried_again(model: Any, sizes: list[int], room: int) -> None:
    """CTranslate2 leaves an error behind, which its next call finds: seen on an H100."""
    left = False

    def transcribe(batch: Sequence[Any]) -> Sequence[Any]:
        nonlocal left
        if left:
            left = False
            raise RuntimeError("parallel_for failed: cudaErrorInvalidDevice: invalid device ordinal")
        if len(batch) > room:
            left = True
            raise RuntimeError("CUDA failed with error out of memory")
        return type(model).transcribe(model, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "transcribe", transcribe)
        patch.setattr(model, "_most", 1 << 30)
        patch.setattr(cuda, "free", lambda: None)  # it takes its time in a process as large as this one
        for size in sizes:
            codes = {fault.code if fault else None for _, _, fault in run(model, *[Request()] * size)}
            assert codes == ({None} if room else {FaultCode.UNAVAILABLE})


@pytest.fixture
def on_gpu(model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model's class, whose instances believe that they run on a GPU."""
    monkeypatch.setattr(engine.EngineConfig, "on_its_gpu", lambda self: self)
    return type(model)


ON_GPU = {"name": "m", "max_batch_size": 4, "parameters": {wire.CONFIG_DEVICE: {"string_value": "cuda:0"}}}


def test_loading_on_a_gpu_tries_the_largest_batch(on_gpu: Any) -> None:
    model = on_gpu()
    model.initialize({"model_config": json.dumps(ON_GPU)})
    assert [len(batch) for batch in model.batches] == [1, 4]
    assert all(stretch.options.word_timestamps and stretch.seconds == 30 for stretch in model.batches[1])


def test_a_gpu_that_cannot_be_used_is_told_on_loading(on_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def transcribe(self: Any, batch: Sequence[Any]) -> Sequence[Any]:
        raise RuntimeError("Library libcublas.so.12 is not found or cannot be loaded")

    monkeypatch.setattr(on_gpu, "transcribe", transcribe)
    with pytest.raises(RuntimeError, match=r"the GPU cannot be used: Library libcublas\.so\.12 is not found"):
        on_gpu().initialize({"model_config": json.dumps(ON_GPU)})


def test_a_single_stretch_too_many_is_for_now(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def transcribe(batch: Sequence[Any]) -> Sequence[Any]:
        raise RuntimeError("CUDA failed with error out of memory")

    monkeypatch.setattr(model, "transcribe", transcribe)
    assert [fault and fault.code for _, _, fault in run(model, Request(), Request())] == [FaultCode.UNAVAILABLE] * 2


def test_a_lost_gpu_is_asked_for_nothing_more(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def transcribe(batch: Sequence[Any]) -> Sequence[Any]:
        nonlocal calls
        calls += 1
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(model, "transcribe", transcribe)
    monkeypatch.setattr(cuda, "is_lost", lambda error: True)
    assert [fault and fault.code for _, _, fault in run(model, *[Request()] * 5)] == [FaultCode.BROKEN] * 5
    assert calls == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (AsrOptions(), ()),
        (AsrOptions(language="de-AT", languages=("en", "fr")), ("de",)),
        (AsrOptions(languages=("EN", "fr", "en-US")), ("en", "fr")),
    ],
)
def test_languages_that_may_be_spoken(asr: types.ModuleType, options: AsrOptions, named: tuple[str, ...]) -> None:
    assert asr.named_languages(options, {"de", "en", "fr"}) == named


@pytest.mark.parametrize(
    ("options", "param"), [(AsrOptions(language="xx"), "language"), (AsrOptions(languages=("en", "xx")), "languages")]
)
def test_languages_that_are_not_known(asr: types.ModuleType, options: AsrOptions, param: str) -> None:
    with pytest.raises(wire.InvalidInput, match="'xx' is not one that this model knows: en") as caught:
        asr.named_languages(options, {"en"})
    assert caught.value.param == param
