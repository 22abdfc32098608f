"""Every model through a server of its own: its load, two requests, and the memory before, meanwhile and after.

Where the weights are pulled they are the real ones; else random ones of the same shape, which cost as much to load and
to hold, but write until they are stopped.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from talkies.errors import ModelNotFound, StartupError
from talkies.families import Modality
from talkies.registry import Model, Registry
from talkies.settings import PROJECT, Settings
from talkies.setup import environments, weights
from talkies_kit.wire import AUDIO_CHUNKS

from benchmarks.audio import SENTENCES
from benchmarks.server import serving
from harness import processes

HERE = Path(__file__).parent
CLIP = PROJECT / "tests" / "data" / "jfk.flac"
LIMIT = 1800.0
"""Seconds that a load or a request may take: random weights of billions of parameters are also made for a CPU."""
FRAMES = 25
"""Frames of 80 ms that Qwen3-TTS may speak, which random weights never end."""
COLUMNS = (
    *("model", "engine", "weights", "load s", "first request s", "second request s"),
    *("MB before", "MB loaded", "MB after unload", "engine's MB", "engine's process afterwards"),
)
NVIDIA_SMI = shutil.which("nvidia-smi") or "nvidia-smi"
console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one model took; memory in MB."""

    load: float
    first: float
    second: float
    before: float
    loaded: float
    after: float
    engine: float
    """Resident memory of the engine's process while loaded."""
    gone: bool
    """Whether that process has ended with the unload."""


def measure_engines(settings: Settings, slugs: Iterable[str], *, gpu: bool, tiny: bool) -> bool:
    """Print the table; whether every model was measured and its process had gone after the unload."""
    used = _gpu_memory(settings) if gpu else None
    if not gpu:
        settings = settings.model_copy(update={"device": "cpu"})
    elif settings.device in ("auto", "cpu"):
        settings = settings.model_copy(update={"device": "cuda"})
    settings = settings.model_copy(update={"data_dir": settings.data_dir.absolute()})
    try:
        registry = Registry.load(settings.models_file, engines=settings.engines_dir)
        models = [registry.find(slug) for slug in slugs] or list(registry.values())
        needed = {environments.TRITONSERVER, AUDIO_CHUNKS, *(model.executor.environment for model in models)}
        environments.build(settings, sorted(needed), lambda name: console.print(f"building the environment {name}"))
    except (StartupError, ModelNotFound) as error:
        raise SystemExit(str(error)) from None
    print(_about(settings, gpu=gpu), "", _line(COLUMNS), _line(["---"] * len(COLUMNS)), sep="\n", flush=True)
    good = True
    for model in models:
        console.print(f"{model.slug}: weights")
        with tempfile.TemporaryDirectory(prefix="bench-", dir=settings.data_dir) as scratch:
            try:
                kind = _provide(settings, model, Path(scratch) / "models" / model.slug, tiny=tiny)
                console.print(f"{model.slug}: {kind}, measured")
                figures = _measure(settings, model, Path(scratch), used)
            except Unmeasured as error:
                good = False
                cells = [str(error)]
            else:
                good &= figures.gone
                cells = [kind, *_cells(figures)]
        print(_line([model.slug, model.executor.name, *cells]), flush=True)
    return good


class Unmeasured(Exception):
    """Why a model has no figures, in one line."""


def _gpu_memory(settings: Settings) -> Callable[[], float]:
    """How to ask for the GPU's memory in use, in MB. Raises SystemExit without a GPU."""
    index = settings.device.partition(":")[2] or "0"
    command = [NVIDIA_SMI, f"--id={index}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]

    def used() -> float:
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    try:
        used()
    except (OSError, ValueError, subprocess.CalledProcessError):
        raise SystemExit(
            "--gpu needs an NVIDIA GPU whose nvidia-smi answers, and there is none here; --memory measures on the CPU."
        ) from None
    return used


# --- weights ---------------------------------------------------------------------------------------------------------
def _provide(settings: Settings, model: Model, folder: Path, *, tiny: bool) -> str:
    """Put weights into `folder`; what they are. Raises Unmeasured."""
    family, pulled = model.executor.name, weights.folder(settings, model)
    folder.parent.mkdir(parents=True)
    # Kokoro has no other weights: an int8 graph, and no smaller one.
    if not weights.missing(settings, model) and (not tiny or family == "kokoro"):
        folder.symlink_to(pulled.resolve())
        return "real"
    folder.mkdir()
    shape = f"{model.slug}-tiny" if tiny else model.slug
    script, arguments = HERE / f"weights_{model.executor.environment}.py", [shape]
    match family:
        case "whisper":
            vocabulary = weights.folder(settings, model).with_name("whisper-base")
            if not (vocabulary / "vocabulary.txt").is_file():
                raise Unmeasured("it needs the vocabulary of whisper-base: talkies pull whisper-base")
            arguments.append(str(vocabulary))
        case "qwen3_tts":
            script = PROJECT / "harness" / "models" / "make_qwen3_tts.py"
            arguments = [] if tiny else ["real"]
    if not script.is_file():
        raise Unmeasured(f"it has no weights: talkies pull {model.slug}")
    done = subprocess.run(
        [environments.python(settings, model.executor.environment), script, str(folder), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    if done.returncode:
        raise Unmeasured(f"its weights could not be made: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    return "random, tiny" if tiny else "random, real shape"


# --- measuring -------------------------------------------------------------------------------------------------------
def _measure(settings: Settings, model: Model, scratch: Path, used: Callable[[], float] | None) -> Figures:
    """The figures of the model whose weights are in `scratch`. Raises Unmeasured."""
    data = scratch / "data"
    data.mkdir()
    home = settings.model_copy(update={"data_dir": scratch, "envs_dir": settings.envs})
    variables = {
        "DEVICE": settings.device,
        "ENABLED_MODELS": model.slug,
        "ALLOW_SLOW_CPU": "true",
        "LOAD_TIMEOUT": str(LIMIT),
        "MODEL_TTL": "0",
        "AUTH_TOKEN": "",
    }
    with serving(home, data, **variables) as server:
        memory = used or (lambda: sum(processes.memory(server.process.pid).values()))
        before = memory()
        first, load = _ask(server.url, model)
        second, _ = _ask(server.url, model)
        loaded, engine = memory(), processes.memory(server.process.pid).get(model.engine, 0.0)
        server.unload()
        after, gone = memory(), not server.pids(model.engine)
    return Figures(load, first - load, second, before, loaded, after, engine, gone)


def _ask(url: str, model: Model) -> tuple[float, float]:
    """One request: seconds until its answer, and those of them that the load took. Raises Unmeasured."""
    started = time.perf_counter()
    with httpx.Client(base_url=url, timeout=LIMIT) as http:
        if model.modality is Modality.ASR:
            files = {"file": (CLIP.name, CLIP.read_bytes())}
            answer = http.post("/v1/audio/transcriptions", data={"model": model.slug}, files=files)
        else:
            body: dict[str, Any] = {"model": model.slug, "input": SENTENCES[0], "response_format": "wav"}
            if model.executor.clones:
                body["max_new_tokens"] = FRAMES
            answer = http.post("/v1/audio/speech", json=body)
    took = time.perf_counter() - started
    if not answer.is_success:
        raise Unmeasured(f"{answer.status_code}: {answer.json()['error']['message']}")
    load = re.search(r"load;dur=([\d.]+)", answer.headers.get("server-timing", ""))
    return took, float(load[1]) / 1000 if load else 0.0


# --- the table -------------------------------------------------------------------------------------------------------
def _cells(figures: Figures) -> list[str]:
    seconds = [f"{value:.2f}" for value in (figures.load, figures.first, figures.second)]
    memory = [f"{value:.0f}" for value in (figures.before, figures.loaded, figures.after, figures.engine)]
    return [*seconds, *memory, "gone" if figures.gone else "STILL THERE"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join([*cells, *[''] * (len(COLUMNS) - len(cells))])} |"


def _about(settings: Settings, *, gpu: bool) -> str:
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    machine = f"{cpu[1] if cpu else 'unknown CPU'}, {len(os.sched_getaffinity(0))} cores"
    counted = "Memory is what talkies, tritonserver and the engines have resident, shared pages counted in each."
    if gpu:
        names = subprocess.run([NVIDIA_SMI, "-L"], capture_output=True, text=True, check=True).stdout
        machine = f"{names.splitlines()[0].partition(' (')[0]}, {machine}"
        counted = "Memory is what is in use on the whole GPU; the engine's is its process's, on the host."
    return f"`{shlex.join(['scripts/bench', *sys.argv[1:]])}` on {machine}, device {settings.device}. {counted}"
