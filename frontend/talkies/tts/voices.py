"""The voices of the TTS models, read from the folders that the engines load them from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from talkies_kit import clips

from talkies import weights
from talkies.errors import BadRequest
from talkies.families import Family, Modality
from talkies.registry import Model, Registry
from talkies.settings import Settings

_SUFFIXES = frozenset({".bin", ".pt"})
_KOKORO = "kokoro"
_WITHOUT_G2P = ("j", "z")
"""First letters of Kokoro's Japanese and Chinese voices, for which its engine has no grapheme-to-phoneme step."""

_OPENAI_VOICES: Mapping[str, str] = {
    "alloy": "af_alloy",
    "ash": "am_michael",
    "ballad": "bm_lewis",
    "coral": "af_bella",
    "echo": "am_echo",
    "fable": "bm_fable",
    "onyx": "am_onyx",
    "nova": "af_nova",
    "sage": "af_sarah",
    "shimmer": "af_sky",
    "verse": "am_puck",
    "marin": "af_heart",
    "cedar": "am_fenrir",
}


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice of one model."""

    name: str
    model: str
    default: bool
    """Whether the model speaks with it when none is asked for."""
    origin: str | None = None
    """"builtin" or "custom" for a voice cloned from a reference clip."""


def clip_folders(settings: Settings, family: Family) -> dict[str, Path]:
    """Where the family's reference clips lie, by their origin; a later folder's clip shadows one of the same name."""
    return {"builtin": family.folder / "voices", "custom": settings.custom_voices}


class Voices:
    """The catalogue, read anew on every call: a file that is put there counts at once."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry

    def all(self) -> list[Voice]:
        """Of every model whose weights are there, in the registry's order, by name."""
        models = (
            model
            for model in self._registry.values()
            if model.modality is Modality.TTS and not weights.missing(self._settings, model)
        )
        return [voice for model in models for voice in self.of(model)]

    def of(self, model: Model) -> list[Voice]:
        """One model's voices by name; of a model that brings its voices, none when its weights are not there."""
        if model.executor.clones:
            folders = clip_folders(self._settings, model.executor)
            origins = {name: origin for origin, place in folders.items() for name in clips.scan(place)}
            return [Voice(name, model.slug, name == model.default_voice, origins[name]) for name in sorted(origins)]
        folder = weights.folder(self._settings, model) / "voices"
        names = {path.stem for path in folder.glob("*") if path.suffix in _SUFFIXES and path.is_file()}
        if model.executor.name == _KOKORO:
            names = {name for name in names if not name.startswith(_WITHOUT_G2P)}
        return [Voice(name, model.slug, name == model.default_voice) for name in sorted(names)]

    def resolve(self, model: Model, asked: str) -> str:
        """The voice to speak with. Raises BadRequest, which lists the model's voices, for one that it lacks."""
        names = [voice.name for voice in self.of(model)]
        asked = asked or model.default_voice
        # Without a catalogue the model cannot be loaded either, and loading says best what is missing.
        if asked in names or not names:
            return asked
        alias = _OPENAI_VOICES.get(asked) if model.executor.name == _KOKORO else None
        if alias in names and self._settings.openai_voices:
            return alias
        raise BadRequest(f"{model.slug} has no voice {asked!r}; its voices are {', '.join(names)}.", param="voice")
