"""The voices of the TTS models, read from the folders that the engines load them from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase

from talkies_kit import clips

from talkies import languages
from talkies.errors import BadRequest
from talkies.families import Modality
from talkies.registry import Model, Registry
from talkies.settings import Settings
from talkies.setup import weights

_UNSAID = "en"
"""What a clip speaks when neither its `.lang` file nor the model's entry says it."""
_LONGEST_LABEL = 64


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice of one model."""

    name: str
    model: str
    default: bool
    """Whether the model speaks with it when none is asked for."""
    origin: str | None = None
    """"builtin" or "custom" for a voice cloned from a reference clip."""
    language: str | None = None
    """What it speaks, as one of the model's codes; None where nothing says it."""
    gender: str | None = None
    """"female" or "male" where its name says it."""


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
            found = {name: (origin, clip) for origin, at in folders.items() for name, clip in clips.scan(at).items()}
            return [
                Voice(name, model.slug, name == model.default_voice, origin, _language_of(clip, model))
                for name, (origin, clip) in sorted(found.items())
            ]
        folder, family = weights.folder(self._settings, model), model.executor
        files = (path for pattern in family.voices for path in folder.glob(pattern))
        names = {path.stem for path in files if path.is_file() and not _matches(path.stem, family.hidden_voices)}
        only = model.languages[0] if len(model.languages) == 1 else None
        return [
            Voice(
                name,
                model.slug,
                name == model.default_voice,
                language=_first(family.voice_languages, name) or only,
                gender=_first(family.voice_genders, name),
            )
            for name in sorted(names)
        ]

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


def _first(facts: Mapping[str, str], name: str) -> str | None:
    """What the first pattern that a voice's name matches says of it."""
    return next((fact for pattern, fact in facts.items() if fnmatchcase(name, pattern)), None)


def _language_of(clip: clips.Clip, model: Model) -> str | None:
    """What a clip speaks, by its `.lang` file or else the model's default; None for what is none of its languages."""
    label = model.default_language or _UNSAID
    if clip.language:
        with suppress(OSError), clip.language.open(encoding="utf-8-sig", errors="replace") as file:
            label = file.read(_LONGEST_LABEL).strip() or label
    return languages.find(label, model.languages)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
