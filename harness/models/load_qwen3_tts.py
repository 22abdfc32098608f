"""Loads Qwen3-TTS with the network cut and looks at what it makes of reference clips.

`python load_qwen3_tts.py MODEL_REPOSITORY MODEL CLIPS` in the environment `qwen3_tts`; prints a line of JSON per clip,
the first one once more at the end, with no room for more than three prompts.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path

from load_nemo import cut_network


def main(repository: Path, weights: Path, folder: Path) -> None:
    from talkies_kit import wire
    from talkies_kit.engine import EngineConfig

    package = sys.modules["qwen3_tts"] = types.ModuleType("qwen3_tts")
    package.__path__ = [str(repository / "qwen3_tts" / "1")]
    model = importlib.import_module("qwen3_tts.model").TritonPythonModel()
    parameters = {
        wire.CONFIG_WEIGHTS: str(weights),
        wire.CONFIG_DEVICE: "cpu",
        wire.CONFIG_CPU_THREADS: "1",
        wire.CONFIG_SAMPLE_RATE: "24000",
        wire.CONFIG_VOICE_FOLDERS: str(folder),
    }
    model.load(EngineConfig("qwen3_tts", parameters))
    setattr(importlib.import_module("qwen3_tts.prompts"), "KEPT", 3)  # noqa: B010 - a module has no such type
    clips = sorted(folder.glob("*.wav"))
    for clip in [*clips, clips[0]]:
        (prompt,) = model._prompts.of(model._prompts.reference(clip.stem))
        print(
            json.dumps(
                {
                    "voice": clip.stem,
                    "embedding": prompt.ref_spk_embedding.tolist(),
                    "codes": None if prompt.ref_code is None else list(prompt.ref_code.shape),
                    "text": prompt.ref_text,
                    "number": id(prompt),
                    "kept": len(model._prompts._kept),
                }
            )
        )


if __name__ == "__main__":
    sys.addaudithook(cut_network)
    sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")  # the server's, unused
    main(*(Path(argument) for argument in sys.argv[1:]))
