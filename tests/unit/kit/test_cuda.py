"""What the kit makes of a GPU's faults, with libraries that raise what the real ones raise."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkies_kit import cuda, engine
from talkies_kit.engine import EngineConfig
from talkies_kit.wire import CONFIG_DEVICE, VISIBLE_DEVICES_VARIABLE, FaultCode, InvalidInput


class OutOfMemoryError(RuntimeError):
    """As torch's."""


class AcceleratorError(RuntimeError):
    """As torch's."""


STARVED = [
    OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA failed with error out of memory"),
    RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"),
]
BROKEN = [
    AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("cuBLAS failed with status CUBLAS_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUDA failed with error unspecified launch failure"),
]
OTHERS = [ValueError("CUDA in the text of a speech"), RuntimeError("shapes differ"), MemoryError(), KeyError("x")]


def torch(*, lost: bool, used: bool = True) -> Any:
    def synchronize() -> None:
        if lost:
            raise AcceleratorError("CUDA error: an illegal memory access was encountered")

    freed: list[int] = []
    library = types.ModuleType("torch")
    library.cuda = types.SimpleNamespace(  # type: ignore[attr-defined]
        is_initialized=lambda: used, synchronize=synchronize, empty_cache=lambda: freed.append(1), freed=freed
    )
    return library


def ctranslate2(*, lost: bool) -> Any:
    class StorageView:
        @classmethod
        def from_array(cls, array: Any) -> StorageView:
            return cls()

        def to_device(self, device: str) -> StorageView:
            if lost:
                raise RuntimeError("CUDA failed with error an illegal memory access was encountered")
            return self

    library = types.ModuleType("ctranslate2")
    library.StorageView, library.Device = StorageView, types.SimpleNamespace(cuda="cuda")  # type: ignore[attr-defined]
    return library


@pytest.fixture(params=["torch", "ctranslate2"])
def lost(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose GPU is lost."""
    make = torch if request.param == "torch" else ctranslate2
    monkeypatch.setitem(sys.modules, request.param, make(lost=True))


@pytest.mark.parametrize("error", STARVED, ids=str)
def test_want_of_memory_is_for_now(error: Exception) -> None:
    assert cuda.is_out_of_memory(error) and not cuda.is_lost(error)
    assert engine.fault_of(error, "speech").code is FaultCode.UNAVAILABLE


@pytest.mark.parametrize("error", BROKEN, ids=str)
def test_a_lost_gpu_is_a_broken_process(lost: None, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    fault = engine.fault_of(error, "transcription")
    assert fault.code is FaultCode.BROKEN and "GPU" in fault.message
    assert str(error) in caplog.text  # what an operator looks up


@pytest.mark.parametrize("error", BROKEN, ids=str)
@pytest.mark.parametrize("library", ["torch", "ctranslate2"])
def test_a_gpu_that_still_answers_is_not_lost(monkeypatch: pytest.MonkeyPatch, library: str, error: Exception) -> None:
    monkeypatch.setitem(sys.modules, library, (torch if library == "torch" else ctranslate2)(lost=False))
    assert engine.fault_of(error, "speech").code is FaultCode.INTERNAL


@pytest.mark.parametrize("error", BROKEN, ids=str)
def test_a_gpu_that_was_never_used_is_not_lost(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch(lost=True, used=False))
    assert not cuda.is_lost(error)


@pytest.mark.parametrize("error", [*OTHERS, *STARVED], ids=repr)
def test_other_faults_break_nothing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch(lost=False))
    assert not cuda.is_lost(error)
    assert engine.fault_of(error, "speech").code is not FaultCode.BROKEN


@given(st.text(), st.sampled_from([InvalidInput, ValueError, RuntimeError, KeyError]))
def test_what_is_said_of_an_error_holds_no_text_of_a_request(text: str, kind: type[Exception]) -> None:
    fault = engine.fault_of(kind(f"~{text}~"), "speech")
    assert kind is InvalidInput or f"~{text}~" not in fault.message


def test_what_was_used_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    library = torch(lost=False)
    monkeypatch.setitem(sys.modules, "torch", library)
    cuda.free()
    assert library.cuda.freed == [1]
    monkeypatch.setitem(sys.modules, "torch", torch(lost=False, used=False))
    cuda.free()  # would start CUDA otherwise


@pytest.mark.parametrize(
    ("device", "allowed", "chosen"),
    [
        ("cuda", None, "0"),
        ("cuda:3", None, "3"),
        ("cuda", "2,5", "2"),
        ("cuda:1", "2,5", "5"),
        ("cuda:1", "GPU-aa, GPU-bb", "GPU-bb"),
    ],
)
@pytest.mark.parametrize("variable", ["CUDA_VISIBLE_DEVICES", VISIBLE_DEVICES_VARIABLE])
def test_a_process_sees_one_gpu(
    monkeypatch: pytest.MonkeyPatch, variable: str, device: str, allowed: str | None, chosen: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv(VISIBLE_DEVICES_VARIABLE, raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    if allowed is not None:
        monkeypatch.setenv(variable, allowed)
    config = EngineConfig("m", {CONFIG_DEVICE: device}).on_its_gpu()
    assert config.device == "cuda:0"
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["CUDA_DEVICE_ORDER"]) == (chosen, "PCI_BUS_ID")


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE_DEVICES_VARIABLE, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(RuntimeError, match="no cuda:2: CUDA_VISIBLE_DEVICES allows 2"):
        cuda.choose("cuda:2")


def test_the_cpu_stays_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert EngineConfig("m", {CONFIG_DEVICE: "cpu"}).on_its_gpu().device == "cpu"
