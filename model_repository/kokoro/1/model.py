"""Kokoro-82M as a Triton model."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import sentencex
from numpy.typing import NDArray
from talkies_kit.engine import EngineConfig
from talkies_kit.splitting import Break, pieces, sentences
from talkies_kit.tts import Pcm, Speech, TtsModel, Utterance, nothing, unspoken

from . import audio
from .vocabulary import Vocabulary, is_audible
from .voices import MAX_PHONEMES, Voices, language_of

Runtime = Callable[[str, NDArray[np.float32], float], NDArray[np.float32]]
"""(known phonemes, style FP32[256], speed) -> FP32 samples at 24 kHz."""

PIECE = 250
"""Longest model call, in phonemes at natural speed. The model takes 510 but hurries beyond 400, and a call is what
another request waits for and what memory is needed for."""
PAUSES = {Break.CLAUSE: 0.1, Break.SENTENCE: 0.25, Break.PARAGRAPH: 0.6}
"""Seconds of silence after each, at natural speed, besides what `audio.trimmed` leaves."""


class TritonPythonModel(TtsModel):
    """Speaks sentence by sentence."""

    def load(self, config: EngineConfig) -> None:
        folder = config.weights
        self._rate = config.sample_rate
        with ThreadPoolExecutor(1) as pool:
            runtime = pool.submit(_load_runtime, folder, config)  # beside the imports, which take longer
            from .g2p import phonemes

            phonemes("Ready.", "en-us")
            self._phonemes = phonemes
            self._runtime, self._vocabulary, self._voices = runtime.result()
        if not self._voices.names():
            raise RuntimeError("kokoro has no voices")

    def synthesize(self, speech: Speech) -> Iterator[Utterance]:
        style = self._voices.style(speech.voice)
        language = language_of(speech.voice, speech.language)
        # Slow speech is long audio, and long audio is what a call's memory goes with.
        limit = min(MAX_PHONEMES, int(PIECE * min(1.0, speech.speed)))
        pause = 0.0
        spoken = False
        for sentence in sentences(speech.text, partial(sentencex.segment, language.partition("-")[0])):
            if sentence is None:
                yield nothing
                continue
            known = self._vocabulary.known(self._phonemes(sentence.text, language)).strip()
            audible = [piece for piece in map(str.strip, pieces(known, limit)) if is_audible(piece)]
            if not audible:
                yield nothing
            for piece in audible:
                yield partial(self._say, piece, style[len(piece) - 1], speech.speed, pause / speech.speed)
                spoken = True
                pause = PAUSES[Break.CLAUSE]
            pause = PAUSES[sentence.end]
        if not spoken:
            yield unspoken(speech.text, self._rate)

    def _say(self, phonemes: str, style: NDArray[np.float32], speed: float, pause: float) -> Iterator[Pcm]:
        """`pause` seconds of silence, then the phonemes."""
        yield audio.pcm(audio.trimmed(self._runtime(phonemes, style, speed), self._rate), pause, self._rate)


def _load_runtime(folder: Path, config: EngineConfig) -> tuple[Runtime, Vocabulary, Voices]:
    """The model, warmed up, with what belongs to it. Raises RuntimeError when files are missing."""
    torch_files = [folder / "kokoro-v1_0.pth", folder / "config.json"]
    onnx = folder / "kokoro-v1.0.int8.onnx"
    runtime: Runtime
    if config.device != "cpu" and all(map(Path.is_file, torch_files)) and importlib.util.find_spec("kokoro"):
        from .torch_runtime import TorchKokoro, read_voice

        vocabulary = Vocabulary.read(folder / "config.json")
        voices = Voices(folder / "voices", ".pt", read_voice)
        runtime = TorchKokoro(folder, config.device)
    elif onnx.is_file():
        from .onnx_runtime import OnnxKokoro

        vocabulary = Vocabulary.read(Path(__file__).with_name("vocabulary.json"))
        voices = Voices(folder / "voices")
        runtime = OnnxKokoro(onnx, vocabulary, config.cpu_threads)
    else:
        raise RuntimeError(f"kokoro has no weights: {onnx.name} is missing")
    for name in voices.names()[:1]:
        runtime(vocabulary.known("həlO."), voices.style(name)[4], 1.0)
    return runtime, vocabulary, voices
