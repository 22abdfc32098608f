"""The TTS base class: fairness, faults as data, cancellation, one closed stream per request."""

from __future__ import annotations

import functools
import importlib
import json
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkies_kit import engine, wire
from talkies_kit.fair import FairQueue

FINAL = 1


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


class Request:
    """A Triton request whose sender keeps what is sent; `closed` is set by the final response."""

    def __init__(
        self,
        text: bytes = b"hello",
        cancel_after: int | None = None,
        parameters: dict[str, object] | None = None,
        **tensors: Any,
    ) -> None:
        self.tensors = {wire.TEXT: text, wire.VOICE: b"v", **tensors}
        self.asked = parameters
        self.cancel_after = cancel_after
        self.pcm: list[int] = []
        self.faults: list[dict[str, str]] = []
        self.finals = 0
        self.closed = threading.Event()

    def get_response_sender(self) -> Request:
        return self

    def parameters(self) -> str:
        return json.dumps(self.asked) if self.asked else ""

    def is_cancelled(self) -> bool:
        return self.cancel_after is not None and len(self.pcm) >= self.cancel_after

    def send(self, response: list[Tensor] | None = None, flags: int = 0) -> None:
        assert not self.finals, "sent after the end"
        if response is not None:
            pcm, error = (tensor.array for tensor in response)
            if error[0]:
                self.faults.append(json.loads(error[0]))
            else:
                self.pcm.append(len(pcm))
        if flags == FINAL:
            self.finals += 1
            self.closed.set()


def tensor_of(request: Request, name: str) -> Tensor | None:
    value = request.tensors.get(name)
    if value is None:
        return None
    return Tensor(name, np.array([value], np.object_ if isinstance(value, bytes) else np.float32))


@pytest.fixture
def tts(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    backend = types.ModuleType("triton_python_backend_utils")
    backend.get_input_tensor_by_name = tensor_of  # type: ignore[attr-defined]
    backend.Tensor = Tensor  # type: ignore[attr-defined]
    backend.InferenceResponse = list  # type: ignore[attr-defined]
    backend.TRITONSERVER_RESPONSE_COMPLETE_FINAL = FINAL  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, backend.__name__, backend)
    monkeypatch.delitem(sys.modules, "talkies_kit.tts", raising=False)
    monkeypatch.setattr(engine, "die_with_parent", lambda: None)
    yield importlib.import_module("talkies_kit.tts")
    sys.modules.pop("talkies_kit.tts", None)


@pytest.fixture
def model(tts: types.ModuleType) -> Iterator[Any]:
    """Speaks each syllable as ten samples; the words "bad", "bug" and "gate" do as they are called."""

    base: Any = tts.TtsModel

    class Model(base):
        def load(self, config: engine.EngineConfig) -> None:
            self.order: list[str] = []
            self.speeches: list[Any] = []
            self.gate = threading.Event()

        def synthesize(self, speech: Any) -> Iterator[Any]:
            self.speeches.append(speech)
            for word in speech.text.split():
                if word == "unspeakable":
                    self.order.append(word)
                    yield functools.partial(tts.nothing)
                    continue
                if word == "bad":
                    raise wire.InvalidInput("no such voice", "voice")
                yield functools.partial(self.say, word, speech.text)

        def say(self, word: str, text: str) -> Iterator[np.ndarray]:
            if word == "bug":
                raise ValueError(text)
            if word == "gate":
                assert self.gate.wait(10)
            for syllable in word.split("-"):
                self.order.append(syllable)
                yield np.zeros(10, np.int16)

    model = Model()
    model.initialize({"model_config": json.dumps({"name": "m"})})
    yield model
    model.finalize()


def run(model: Any, *requests: Request) -> None:
    model.execute(list(requests))
    for request in requests:
        assert request.closed.wait(10)
        assert request.finals == 1


def test_pieces_go_out_in_order_and_the_stream_is_closed(model: Any) -> None:
    request = Request(b"one two three")
    run(model, request)
    assert request.pcm == [10, 10, 10]
    assert model.order == ["one", "two", "three"]
    assert request.faults == []


def test_missing_optional_tensors_have_defaults(model: Any) -> None:
    run(model, Request())
    assert (model.speeches[0].language, model.speeches[0].speed) == ("", 1.0)


@pytest.mark.parametrize(("asked", "speed"), [(0.01, 0.25), (99.0, 4.0), (1.5, 1.5), (-1.0, 0.25)])
def test_speed_is_clamped(model: Any, asked: float, speed: float) -> None:
    run(model, Request(SPEED=asked))
    assert model.speeches[0].speed == speed


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (Request(b" \n\t"), "input"),
        (Request(b"\xff"), "input"),
        (Request(VOICE=b"\xff"), "voice"),
        (Request(LANGUAGE=b"\xff"), "language"),
        (Request(SPEED=float("nan")), "speed"),
        (Request(SPEED=float("inf")), "speed"),
        (Request(parameters={"top_p": "1.5"}), "top_p"),
        (Request(b"bad"), "voice"),
        (Request(b"fine bad"), "voice"),
    ],
)
def test_a_bad_request_is_told_why_and_the_next_one_works(model: Any, request_: Request, param: str) -> None:
    after = Request()
    run(model, request_, after)
    (fault,) = request_.faults
    assert (fault["code"], fault["param"]) == ("invalid", param)
    assert after.pcm == [10]


def test_a_bug_is_an_internal_fault_and_the_log_has_the_place_but_not_the_text(
    model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    request, after = Request(b"secret bug"), Request()
    run(model, request, after)
    (fault,) = request.faults
    assert fault["code"] == "internal"
    assert "secret" not in fault["message"] + caplog.text
    assert "in say" in caplog.text
    assert after.pcm == [10]


def test_a_cancelled_request_stops_between_two_pieces(model: Any) -> None:
    request = Request(b"one two three four", cancel_after=2)
    run(model, request)
    assert model.order == ["one", "two"]


def test_a_cancelled_request_stops_within_a_piece(model: Any) -> None:
    request = Request(b"syl-la-ble two", cancel_after=2)
    run(model, request)
    assert model.order == ["syl", "la"]


def test_a_piece_goes_out_while_it_is_made_and_is_nobody_elses_turn(model: Any) -> None:
    long, short = Request(b"one-by-one end"), Request(b"short")
    run(model, long, short)
    assert long.pcm == [10, 10, 10, 10]
    assert model.order == ["one", "by", "one", "short", "end"]


def test_text_without_speech_gives_others_their_turns(model: Any) -> None:
    """Neither a newcomer nor who was before it waits for the end of what cannot be spoken."""
    hostile, long, short = Request(b"gate " + b"unspeakable " * 500), Request(b"a b c d"), Request(b"short")
    model.execute([hostile, long])
    model.execute([short])
    model.gate.set()
    for request in (short, long, hostile):
        assert request.closed.wait(10)
    last = max(model.order.index(word) for word in ("short", "d"))
    assert model.order[:last].count("unspeakable") <= 6


def test_a_hang_up_ends_what_cannot_be_spoken_within_a_step(model: Any) -> None:
    hostile = Request(b"one " + b"unspeakable " * 500, cancel_after=1)
    run(model, hostile)
    assert model.order.count("unspeakable") <= 2


def test_sampling_is_read_from_the_parameters(model: Any) -> None:
    run(model, Request(parameters={"temperature": "0.5", "top_k": 7, "other": "x"}), Request())
    assert [speech.sampling for speech in model.speeches] == [wire.Sampling(temperature=0.5, top_k=7), wire.Sampling()]


def test_a_short_request_does_not_wait_for_a_long_one(model: Any) -> None:
    long, short = Request(b"gate " + b"long " * 50), Request(b"short")
    model.execute([long])
    model.execute([short])
    model.gate.set()
    assert short.closed.wait(10)
    assert long.closed.wait(10)
    assert model.order.index("short") <= 2


def test_a_request_ends_with_its_last_piece_whoever_else_waits(model: Any) -> None:
    long, short = Request(b"long gate"), Request(b"short")
    model.execute([long, short])
    assert short.closed.wait(10)
    assert not long.closed.is_set()
    model.gate.set()
    assert long.closed.wait(10)


def test_a_sender_that_fails_does_not_stop_the_others(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, after = Request(), Request()

    def refuse(response: Any = None, flags: int = 0) -> None:
        raise OSError("gone")

    monkeypatch.setattr(broken, "send", refuse)
    model.execute([broken])
    run(model, after)
    assert after.pcm == [10]


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(1, 9), min_size=1, max_size=8)), max_size=30))
def test_fair_queue_serves_everything_and_nobody_waits_long(arrivals: list[tuple[int, list[int]]]) -> None:
    """Jobs are (turns before it arrives, costs of its steps): none gets ahead of another by more than a step."""
    queue: FairQueue[tuple[int, list[int]]] = FairQueue()
    served: list[int] = []

    def turn() -> None:
        least = min(t.used for t in queue._heap)
        got = queue.take()
        assert got.used == least
        name, costs = got.job
        served.append(name)
        cost, *rest = costs
        if rest:
            got.job = (name, rest)
            queue.put_back(got, cost)

    for name, (gap, costs) in enumerate(arrivals):
        for _ in range(gap):
            if len(queue):
                turn()
        queue.add((name, list(costs)))
        used = [t.used for t in queue._heap]
        assert max(used) - min(used) <= 9
    while len(queue):
        turn()
    assert sorted(served) == sorted(name for name, (_, costs) in enumerate(arrivals) for _ in costs)
