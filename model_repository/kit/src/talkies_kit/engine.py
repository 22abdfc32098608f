"""What every Python-backend model does the same way: read its rendered configuration, and not outlive tritonserver."""

from __future__ import annotations

import errno
import json
import locale
import logging
import os
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from talkies_kit import cuda, wire
from talkies_kit.cores import cores
from talkies_kit.wire import Fault, FaultCode, InvalidInput

log = logging.getLogger("talkies")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """A model's rendered `config.pbtxt`, as Triton hands it to `initialize`."""

    name: str
    parameters: Mapping[str, str]
    """The string parameters of `config.pbtxt`."""
    max_batch_size: int = 1

    @classmethod
    def parse(cls, args: Mapping[str, str]) -> EngineConfig:
        """`args` as Triton passes them to `TritonPythonModel.initialize`."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        return cls(config["name"], parameters, max(1, int(config.get("max_batch_size", 1))))

    @property
    def weights(self) -> Path:
        """The folder of the model's weights. Raises RuntimeError when it is not there."""
        path = Path(self.parameters[wire.CONFIG_WEIGHTS])
        if not path.is_dir():
            raise RuntimeError(f"the weights of {self.name.removesuffix('.engine')} are not there")
        return path

    @property
    def device(self) -> str:
        """ "cpu", "cuda" or "cuda:N"."""
        return self.parameters.get(wire.CONFIG_DEVICE, "cpu")

    def on_its_gpu(self) -> EngineConfig:
        """The same, with the one GPU that this process sees from now on. Raises RuntimeError; see `cuda.choose`."""
        return replace(self, parameters={**self.parameters, wire.CONFIG_DEVICE: cuda.choose(self.device)})

    @property
    def sample_rate(self) -> int:
        """Of a TTS engine's PCM, in Hz, as its family.toml has it."""
        return int(self.parameters[wire.CONFIG_SAMPLE_RATE])

    @property
    def cpu_threads(self) -> int:
        """Threads for work on the CPU, at least 1; a few where the GPU does the work."""
        enough = cores() if self.device == "cpu" else min(4, cores())
        return int(self.parameters.get(wire.CONFIG_CPU_THREADS, "0")) or enough

    def check_device(self) -> None:
        """Raises RuntimeError for an engine that is too slow on the CPU, unless the operator allows it."""
        if self.device == "cpu" and self.parameters.get(wire.CONFIG_REFUSE_CPU) == "true":
            raise RuntimeError(
                f"{self.name.removesuffix('.engine')} needs an NVIDIA GPU with CUDA and there is none; "
                "TALKIES_ALLOW_SLOW_CPU=true runs it on the CPU, slowly"
            )

    def number(self, name: str) -> float:
        """The numeric parameter `name`; its default is the setting's."""
        return float(self.parameters[name])


_WANTS = frozenset(
    {errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EIO, errno.EAGAIN}
)


def is_want(error: BaseException) -> bool:
    """Whether the machine lacks something that it may have in a moment: that is no file's and no client's fault.

    A MemoryError, or what has such an errno, as FFmpeg's errors do too.
    """
    return isinstance(error, MemoryError) or getattr(error, "errno", None) in _WANTS


def fault_of(error: Exception, work: str) -> Fault:
    """The fault to answer with when `work` ("transcription") raised `error`; ours are logged, the caller's are not."""
    if isinstance(error, InvalidInput):
        return Fault(FaultCode.INVALID, str(error), error.param)
    if cuda.is_lost(error):
        log.error("%s lost the GPU: %s", work, error)  # the driver's words, which quote nobody
        return Fault(FaultCode.BROKEN, f"the GPU failed during {work}; the model is loaded anew")
    if cuda.is_out_of_memory(error):
        log.error("%s lacks memory on the GPU: %s", work, error)
        return Fault(FaultCode.UNAVAILABLE, f"the GPU has too little memory for {work} just now; try again")
    if is_want(error):
        log.error("%s lacks what it needs: %s", work, _errno_name(error))
        return Fault(FaultCode.UNAVAILABLE, f"the machine is out of memory, disk or files for {work}; try again")
    # Without the message, which may quote what was said or to be spoken; that never goes to the log or to the caller.
    log.error("%s failed: %s\n%s", work, type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    return Fault(FaultCode.INTERNAL, f"{work} failed ({type(error).__name__}); the server's log says where")


def _errno_name(error: BaseException) -> str:
    """ENOMEM and so on; without the message, which may have a path in it."""
    number = getattr(error, "errno", None) or errno.ENOMEM
    return errno.errorcode.get(number, str(number))


def use_utf8() -> None:
    """Let libraries that open text files without naming an encoding read UTF-8.

    Triton's stub starts Python isolated, in the C locale whatever the environment says, so that they would read ASCII.
    """
    locale.setlocale(locale.LC_CTYPE, "C.UTF-8")


def die_with_parent(interval: float = 1.0) -> None:
    """End this process within `interval` seconds of tritonserver's death.

    A killed tritonserver leaves its stubs alive, weights in memory. PR_SET_PDEATHSIG would fire when the *thread* that
    loaded the model ends, so the parent is watched instead.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval)
        os._exit(1)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()
