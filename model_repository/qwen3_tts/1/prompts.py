"""What the model is given of a voice, made from its reference clip once and kept while the clip stays the same."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from talkies_kit import clips
from talkies_kit.wire import InvalidInput

from .references import Reference

KEPT = 64
"""Voices; a prompt is some ten kilobytes."""


class Prompts:
    """The prompts of the voices whose clips lie in `folders`; a later folder's clip shadows an earlier one's."""

    def __init__(
        self, model: Any, clean: Callable[[str], str], folders: Sequence[Path], rate: int, language: str
    ) -> None:
        """`model` is qwen-tts' own, `rate` its sample rate; `clean` takes the special tokens out of a text.

        `language` is the code of clips that do not say theirs.
        """
        self._model = model
        self._clean = clean
        self._folders = folders
        self._rate = rate
        self._language = language
        self._kept: OrderedDict[bytes, list[Any]] = OrderedDict()

    def reference(self, voice: str) -> Reference:
        """The clip called `voice` as it is now. A name is looked up, never made into a path. Raises InvalidInput."""
        found = {name: clip for folder in self._folders for name, clip in clips.scan(folder).items()}
        if voice not in found:
            raise InvalidInput(f"unknown voice {voice[:64]!r}; the voices are {', '.join(sorted(found))}", "voice")
        return Reference.read(voice, found[voice], self._language)

    def of(self, reference: Reference) -> list[Any]:
        """The prompt, as the library's list for one text. Raises InvalidInput when the clip is of no use."""
        key = hashlib.sha256(hashlib.sha256(reference.wav).digest() + reference.text.encode()).digest()
        if key not in self._kept:
            self._kept[key] = self._make(reference)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _make(self, reference: Reference) -> list[Any]:
        text = self._clean(reference.text).strip()
        # As samples: a string could be a path or a URL, which the library would open.
        prompt: list[Any] = self._model.create_voice_clone_prompt(
            ref_audio=(reference.samples(self._rate), self._rate), ref_text=text, x_vector_only_mode=not text
        )
        return prompt
