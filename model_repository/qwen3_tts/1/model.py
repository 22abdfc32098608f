"""Qwen3-TTS as a Triton model: speaks in the voice of a reference clip."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sentencex
from talkies_kit import engine, wire
from talkies_kit.engine import EngineConfig
from talkies_kit.tts import Pcm, Speech, TtsModel, Utterance, nothing, unspoken
from talkies_kit.wire import InvalidInput, Sampling

from .languages import LABELS, code_of
from .prompts import Prompts
from .utterances import utterances

COLDEST = 0.01
"""Temperature below which nothing is drawn: dividing by less overflows, which on a GPU ends the process."""
FRAMES, FRAMES_PER_BYTE = 50, 4
"""How long a text may become before it is cut off: a model that misses its end babbles on. Slow speech takes half.
A frame is 80 ms."""


class TritonPythonModel(TtsModel):
    """One request at a time: the caches and CUDA graphs are there once."""

    def load(self, config: EngineConfig) -> None:
        on_cpu = config.device == "cpu"
        folder = config.weights
        engine.use_utf8()
        from . import library

        self._library = library
        self._model = library.on_cpu(folder, config.cpu_threads) if on_cpu else library.on_gpu(folder, config.device)
        self._graphs = not on_cpu
        # The tokenizer would take them for its own in a text as well, and a text could then end itself or go on as
        # another speaker.
        special = [token for token in self._model.model.processor.tokenizer.get_added_vocab() if token[0] == "<"]
        self._special = re.compile("|".join(map(re.escape, special)))
        folders = [Path(folder) for folder in config.parameters[wire.CONFIG_VOICE_FOLDERS].split(os.pathsep)]
        language = config.parameters.get(wire.CONFIG_DEFAULT_LANGUAGE, "en")
        self._prompts = Prompts(self._model.model, self._clean, folders, config.sample_rate, language)
        self._rate = config.sample_rate
        self._warm_up(config.sample_rate)

    def synthesize(self, speech: Speech) -> Iterator[Utterance]:
        reference = self._prompts.reference(speech.voice)
        language = code_of(speech.language) if speech.language else reference.language
        if language is None:
            raise InvalidInput(
                f"there is no language {speech.language[:64]!r}; there are {', '.join(LABELS)}", "language"
            )
        prompt = self._prompts.of(reference)  # takes a moment the first time, which is nobody else's turn
        spoken = False
        segment = partial(sentencex.segment, "en" if language == "auto" else language)
        for text in utterances(self._clean(speech.text), segment):
            if text is None:
                yield nothing
                continue
            yield partial(self._say, text, language, prompt, speech.sampling)
            spoken = True
        if not spoken:
            yield unspoken(speech.text, self._rate)

    def _say(self, text: str, language: str, prompt: list[Any], sampling: Sampling) -> Iterator[Pcm]:
        drawn = sampling.temperature is None or sampling.temperature >= COLDEST
        asked = {
            "temperature": sampling.temperature if drawn else None,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "repetition_penalty": sampling.repetition_penalty,
        }
        frames = sampling.max_new_tokens or FRAMES + FRAMES_PER_BYTE * len(text.encode())
        for samples in self._library.stream(
            self._model,
            text,
            LABELS[language],
            prompt,
            # The graphs draw the finer codes, whatever is asked: what is to be the same every time is made without.
            graphs=self._graphs and drawn,
            max_new_tokens=min(frames, self._library.POSITIONS),
            do_sample=drawn,
            **{name: value for name, value in asked.items() if value is not None},
        ):
            yield (np.clip(samples, -1, 1) * 32767).astype(np.int16)

    def _warm_up(self, rate: int) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, rate).astype(np.float32)
        prompt = self._model.model.create_voice_clone_prompt(ref_audio=(noise, rate), x_vector_only_mode=True)
        for _ in self._say("Ready.", "auto", prompt, Sampling(max_new_tokens=2)):
            pass

    def _clean(self, text: str) -> str:
        return self._special.sub(" ", text)
