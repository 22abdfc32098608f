"""Loads the engines' models with the network cut and lets them hear a clip.

`python load_nemo.py MODEL_REPOSITORY MODELS CLIP` in the environment `nemo`, where MODELS is what make_nemo.py made;
prints a line of JSON per engine.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

ENGINES = {"parakeet": "parakeet", "canary_multitask": "canary", "canary_salm": "salm"}


def main(repository: Path, models: Path, clip: Path) -> None:
    import soundfile
    from talkies_kit import wire
    from talkies_kit.asr import Stretch
    from talkies_kit.engine import EngineConfig
    from talkies_kit.wire import AsrOptions

    samples = soundfile.read(clip, dtype="float32")[0]
    for engine, weights in ENGINES.items():
        package = sys.modules[engine] = types.ModuleType(engine)
        package.__path__ = [str(repository / engine / "1")]
        model = importlib.import_module(f"{engine}.model").TritonPythonModel()
        parameters = {
            wire.CONFIG_WEIGHTS: str(models / weights),
            wire.CONFIG_DEVICE: "cpu",
            wire.CONFIG_CPU_THREADS: "1",
        }
        model.load(EngineConfig(f"{engine}.engine", parameters))
        (hypothesis,) = model.transcribe([Stretch(samples, AsrOptions(), "")])
        print(json.dumps([engine, hypothesis.language, [segment.text for segment in hypothesis.segments]]))


def cut_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print(f"{event} {arguments}", file=sys.stderr, flush=True)
        os._exit(3)  # an exception could be caught


if __name__ == "__main__":
    sys.addaudithook(cut_network)
    sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")  # the server's, unused
    main(*(Path(argument) for argument in sys.argv[1:]))
