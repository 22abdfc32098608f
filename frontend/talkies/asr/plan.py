"""Request fields become work: the one place for it, whether they came as a form or through MCP. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema, model_validator
from pydantic_core import from_json
from talkies_kit.wire import AsrOptions

from talkies import languages
from talkies.asr import formats, subtitles
from talkies.asr.formats import Asked, Format
from talkies.asr.subtitles import Layout
from talkies.asr.transcript import SPEAKERS, Transcript
from talkies.dialect import DESCRIPTION, Dialect
from talkies.errors import BadRequest, choose
from talkies.families import Modality
from talkies.registry import Model, Registry

_TRANSLATING = frozenset({"translate", "s2t_translation", "ast"})
"""What `default_task` of a registry entry calls translation."""
_MAX_SPEAKERS = 4
_MANY_LANGUAGES = 30
"""More than a sentence should have."""
_SHOWN = 40
"""Characters of a language that there is not."""
_PROGRESS = "progress"
"""What `include` asks for the events of a progress bar with."""
_LOGPROBS = "logprobs"
"""What it asks for log probabilities with, as at OpenAI."""


class TranslationFields(BaseModel):
    """The text fields that translations have too."""

    model: str = Field(description="A slug of GET /v1/models.")
    file_path: str = Field("", description="A staged file or an http(s) URL to transcribe instead of `file`.")
    language: str = Field("", description="ISO 639-1 code of the speech; the model's default or detection otherwise.")
    response_format: str = Field("json", description=f"One of {', '.join(formats.FORMATS)}.")
    prompt: str = Field("", description="Text that sets vocabulary and style, where the model can.")
    temperature: float = Field(0.0, ge=0, le=1, description="Sampling temperature, where the model can.")
    max_line_width: int = Field(
        subtitles.DEFAULT.width,
        ge=10,
        le=200,
        description="Columns of a line of srt and vtt; a CJK character takes two.",
    )
    max_line_count: int = Field(subtitles.DEFAULT.lines, ge=1, le=10, description="Lines of a cue of srt and vtt.")
    max_cue_seconds: float = Field(
        subtitles.DEFAULT.seconds, ge=1, le=60, description="Seconds of a cue of srt and vtt."
    )


class Chunking(BaseModel):
    """OpenAI's `chunking_strategy`: how audio is cut."""

    type: Literal["auto", "server_vad"]
    threshold: float | None = Field(None, ge=0, le=1, description="Probability from which on sound is speech.")
    silence_duration_ms: float | None = Field(None, ge=0, le=10_000, description="Silence in which it may be cut.")
    prefix_padding_ms: float | None = Field(None, ge=0, le=5_000, description="Sound that is kept around speech.")

    @model_validator(mode="before")
    @classmethod
    def _written(cls, value: Any) -> Any:
        """It may be written as a word, or as the JSON of an object."""
        if not isinstance(value, str):
            return value
        return from_json(value) if value.lstrip().startswith("{") else {"type": value}


class TranscriptionFields(TranslationFields):
    """The text fields of a transcription; other ones are ignored."""

    languages: list[str] = Field([], description="Codes of which the language is one, where `language` names none.")
    keywords: list[str] = Field([], description="Names and terms to expect; they join the prompt.")
    diarization: bool = Field(False, description="Transcribe the left and right channel as two speakers.")
    known_speaker_names: list[str] = Field(
        [], description="Names of the left and the right speaker, for diarized_json; at most four, two are used."
    )
    chunking_strategy: Annotated[
        Chunking | None,
        WithJsonSchema({"anyOf": [{"type": "string", "enum": ["auto"]}, Chunking.model_json_schema()]}),
    ] = Field(None, description="How audio is cut; auto is the server's way.")
    stream: bool = Field(
        False,
        description="Answer with server-sent events as the text is made: json, text, verbose_json, diarized_json.",
    )
    include: list[str] = Field(
        [],
        description=f"`{_PROGRESS}`: with `stream`, events say how many seconds are done, and the answer of any format "
        f"comes in one. `{_LOGPROBS}`: json says how likely each token was. Others have no effect.",
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """A transcription to make, and how to show it."""

    model: Model
    options: AsrOptions
    format: Format
    media_type: str
    diarize: bool
    asked: Asked
    watched: bool = False
    """Events tell how far it is, and the whole answer at the end."""

    def render(self, transcript: Transcript) -> str:
        """The finished transcript as the body of its response_format."""
        return self.format.render(transcript, self.asked)


def plan_of(
    registry: Registry,
    fields: TranslationFields,
    *,
    task: Literal["translate"] | None = None,
    dialect: Dialect = DESCRIPTION,
) -> Plan:
    """What the fields ask for; `task` "translate" is into English, otherwise the model's own task is done.

    Raises ModelNotFound, and BadRequest for fields that do not fit the model or each other.
    """
    model = registry.find(fields.model)
    if model.modality is not Modality.ASR:
        raise BadRequest(f"{model.slug} speaks; choose a model with modality asr.", param="model")
    wanted = fields if isinstance(fields, TranscriptionFields) else TranscriptionFields(**fields.model_dump())
    format = choose(formats.FORMATS, wanted.response_format, "response_format")
    diarize = wanted.diarization or format.diarized
    if task and diarize:
        raise BadRequest("A translation cannot be diarized.", param="response_format")
    if task and not _translates(model):
        able = [other.slug for other in registry.values() if _translates(other)]
        raise BadRequest(f"{model.slug} cannot translate; models that can: {', '.join(able) or 'none'}.", param="model")
    watched = _PROGRESS in wanted.include
    if wanted.stream and not (format.streams or watched):
        able = [name for name, other in formats.FORMATS.items() if other.streams]
        raise BadRequest(
            f"{wanted.response_format} is not streamed; choose one of {', '.join(able)} or leave out stream.",
            param="response_format",
        )
    rated = _LOGPROBS in wanted.include
    if rated:
        _refuse_logprobs(registry, model, wanted.response_format, format)
    language, possible = _spoken(model, wanted)
    translating = bool(task) or model.default_task in _TRANSLATING
    target = "en" if task else model.default_target_lang
    return Plan(
        model=model,
        options=AsrOptions(
            language=language,
            languages=possible,
            task="translate" if translating else "transcribe",
            target_language=target if translating else "",
            prompt=" ".join(part for part in (wanted.prompt, ", ".join(wanted.keywords)) if part),
            temperature=wanted.temperature,
            word_timestamps=format.words or format.cues,
            logprobs=rated,
            # The turns of a dialogue are put in order by their times.
            text_only=not (format.times or diarize),
            **_knobs(wanted.chunking_strategy),
        ),
        format=format,
        media_type=dialect.media_types.get(wanted.response_format.lower(), format.media_type),
        diarize=diarize,
        asked=Asked(
            temperature=wanted.temperature,
            speakers=_speakers(wanted.known_speaker_names),
            language="english" if task else "",  # what OpenAI's translations say
            dialect=dialect,
            layout=Layout(wanted.max_line_width, wanted.max_line_count, wanted.max_cue_seconds),
            logprobs=rated,
        ),
        watched=watched,
    )


def _knobs(chunking: Chunking | None) -> dict[str, float | None]:
    """Those that the request sets; "auto" is what is done anyway."""
    if chunking is None or chunking.type == "auto":
        return {}
    return {
        "vad_threshold": chunking.threshold,
        "vad_min_silence_ms": chunking.silence_duration_ms,
        "vad_speech_pad_ms": chunking.prefix_padding_ms,
    }


def _refuse_logprobs(registry: Registry, model: Model, name: str, format: Format) -> None:
    """Unless the model knows log probabilities and the format called `name` has a place for them."""
    if not format.logprobs:
        able = " or ".join(other for other, each in formats.FORMATS.items() if each.logprobs)
        raise BadRequest(
            f"{name} has no log probabilities; choose response_format {able}, or leave {_LOGPROBS} out of include.",
            param="include",
        )
    if not model.executor.logprobs:
        able = ", ".join(other.slug for other in registry.values() if other.executor.logprobs) or "none"
        raise BadRequest(f"{model.slug} knows no log probabilities; models that do: {able}.", param="include")


def _translates(model: Model) -> bool:
    """Whether the model can turn other languages into English."""
    return model.executor.translates and any(language != "en" for language in model.languages)


def _spoken(model: Model, fields: TranscriptionFields) -> tuple[str, tuple[str, ...]]:
    """The language, or several of which it is one: of these the model's own comes first, for one that cannot detect."""
    named = dict.fromkeys(_language(model, language, "languages") for language in fields.languages)
    possible = () if "" in named else tuple(sorted(named, key=lambda code: code != model.default_source_lang))
    if (language := _language(model, fields.language, "language")) or len(possible) < 2:
        return language or (possible[0] if possible else model.default_source_lang), ()
    return "", possible


def _language(model: Model, asked: str, param: str) -> str:
    """The model's code for a language as people write it; empty to detect it."""
    if not asked.strip() or asked.strip().lower() in languages.DETECTION:
        return ""
    if code := languages.find(asked, model.languages):
        return code
    known = f"its languages are {', '.join(model.languages)}"
    if len(model.languages) > _MANY_LANGUAGES:
        known = f"GET /v1/models/{model.slug} lists its {len(model.languages)} languages"
    raise BadRequest(f"{model.slug} has no language {asked[:_SHOWN]!r}; {known}.", param=param)


def _speakers(names: Iterable[str]) -> tuple[str, str]:
    given = [name.strip() for name in names]
    if len(given) > _MAX_SPEAKERS:
        raise BadRequest(f"There can be at most {_MAX_SPEAKERS} known speakers.", param="known_speaker_names")
    left, right, *_ = [*given, *SPEAKERS[len(given) :]]
    return left, right
