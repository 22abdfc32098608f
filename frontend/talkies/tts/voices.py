"""The voices of the TTS models, read from the folders that the engines load them from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from talkies_kit import clips

from talkies.errors import BadRequest
from talkies.families import Modality
from talkies.registry import Model, Registry
from talkies.settings import Settings
from talkies.setup import weights


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice of one model."""

    name: str
    model: str
    default: bool
    """Whether the model speaks with it when none is asked for."""
    origin: str | None = None
    """"builtin" or "custom" for a voice cloned from a reference clip."""


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
            folders = model.executor.clip_folders(self._settings)
            origins = {name: origin for origin, place in folders.items() for name in clips.scan(place)}
            return [Voice(name, model.slug, name == model.default_voice, origins[name]) for name in sorted(origins)]
        folder, family = weights.folder(self._settings, model), model.executor
        files = (path for pattern in family.voices for path in folder.glob(pattern))
        names = {path.stem for path in files if path.is_file() and not _matches(path.stem, family.hidden_voices)}
        return [Voice(name, model.slug, name == model.default_voice) for name in sorted(names)]

    def resolve(self, model: Model, asked: str, *, openai: bool = False) -> str:
        """The voice to speak with; OpenAI's names mean one too where `openai` or the setting says so.

        Raises BadRequest, which lists the model's voices, for one that it lacks.
        """
        names = [voice.name for voice in self.of(model)]
        asked = asked or model.default_voice
        # Without a catalogue the model cannot be loaded either, and loading says best what is missing.
        if asked in names or not names:
            return asked
        alias = model.executor.openai_voices.get(asked.lower())
        if alias in names and (openai or self._settings.openai_voices):
            return alias
        way_out = " OpenAI's names work under model tts-1, or with TALKIES_OPENAI_VOICES=true." if alias else ""
        raise BadRequest(
            f"{model.slug} has no voice {asked!r}; its voices are {', '.join(names)}.{way_out}", param="voice"
        )


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
