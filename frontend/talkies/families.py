"""The engine families: what the models of one executor have in common, as `family.toml` in the engine's folder says.

The folders are those of model_repository/ and those in the folder that TALKIES_ENGINES_DIR names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from talkies.errors import StartupError
from talkies.settings import PROJECT, Settings

MODEL_REPOSITORY = PROJECT / "model_repository"
_FACTS = "family.toml"
_ENGINE = "1/model.py"


class Modality(StrEnum):
    ASR = "asr"
    TTS = "tts"


@dataclass(frozen=True, slots=True)
class Family:
    """What all models of one executor have in common."""

    name: str
    """The engine's folder, and what models.json calls `executor`."""
    folder: Path
    modality: Modality
    files: Annotated[tuple[str, ...], Field(min_length=1)]
    """Patterns of the files that the engine reads."""
    required: tuple[str, ...]
    """Patterns of which each must match a file, or the engine cannot start."""
    languages: Annotated[tuple[str, ...], Field(min_length=1)]
    """ISO 639-1 codes (TTS: with the region where it matters) of a model that lists none."""
    environment: str
    """One of its own, called like the engine, or one that it shares with others."""
    translates: bool = False
    """Can write in English what was said in another of its languages."""
    timestamps: bool = True
    """Tells when its segments and words were said."""
    logprobs: bool = False
    """Tells how likely each token of its text was."""
    clones: bool = False
    """Speaks in the voices of reference clips: those in `voices/` of its folder and the user's."""
    repeats: bool = False
    """Cuts a text into the same pieces in every run; their samples may differ a little, between pauses."""

    slow_on_cpu: bool = False
    """Of no use without a GPU; TALKIES_ALLOW_SLOW_CPU lets it run all the same."""
    sample_rate: int = 0
    """Of a TTS engine's PCM, in Hz; 0 of an ASR engine."""
    voices: tuple[str, ...] = ()
    """Patterns of the files among the weights that are voices, each called like its file without the suffix."""
    hidden_voices: tuple[str, ...] = ()
    """Patterns of the names of those that the engine cannot speak with."""
    voice_languages: Mapping[str, str] = field(default_factory=dict)
    """What the voices speak that are no clips, by patterns of their names; an only language needs none."""
    voice_genders: Mapping[str, str] = field(default_factory=dict)
    """Who they sound like, by patterns of their names."""
    openai_voices: Mapping[str, str] = field(default_factory=dict)
    """OpenAI's names and what stands for them, with TALKIES_OPENAI_VOICES."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        if self.modality is Modality.TTS and not 8_000 <= self.sample_rate <= 192_000:
            raise ValueError("a TTS engine has a sample_rate of 8000 to 192000")
        if self.modality is Modality.ASR and self.sample_rate:
            raise ValueError("an ASR engine has no sample_rate: it is given 16000")
        if unknown := set(self.voice_languages.values()) - set(self.languages):
            raise ValueError(f"voice_languages has {', '.join(sorted(unknown))}, which is not among its languages")

    def clip_folders(self, settings: Settings) -> dict[str, Path]:
        """Where the reference clips lie, by their origin; a later folder's clip shadows one of the same name."""
        return {"builtin": self.folder / "voices", "custom": settings.custom_voices}


_FAMILY = TypeAdapter(Family)


def load(outside: Path | None = None) -> Mapping[str, Family]:
    """The families by name: those that come with talkies and those in the folder `outside`. Raises StartupError."""
    if outside and not outside.is_dir():
        raise StartupError(f"TALKIES_ENGINES_DIR: {outside} is no folder.")
    families: dict[str, Family] = {}
    for root in filter(None, (MODEL_REPOSITORY, outside)):
        for facts in sorted(root.glob(f"*/{_FACTS}")):
            if root is outside and (MODEL_REPOSITORY / facts.parent.name).exists():
                raise StartupError(f"{facts.parent}: talkies has a folder of that name itself; take another.")
            if not (facts.parent / _ENGINE).is_file():
                raise StartupError(f"{facts.parent} lacks {_ENGINE}.")
            families[facts.parent.name] = _read(facts)
    return families


def folder_of(name: str, outside: Path | None) -> Path:
    """The folder of a family or of an environment that families share, whether or not it is there."""
    shipped = MODEL_REPOSITORY / name
    return outside / name if outside and not shipped.is_dir() else shipped


def _read(path: Path) -> Family:
    name = path.parent.name
    try:
        facts = {"environment": name, **tomllib.loads(path.read_text(encoding="utf-8"))}
        return _FAMILY.validate_python({**facts, "name": name, "folder": path.parent})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise StartupError(f"{path}: {place}{': ' if place else ''}{message}.") from None
    except (OSError, ValueError) as error:
        raise StartupError(f"{path} cannot be read: {error}.") from None
