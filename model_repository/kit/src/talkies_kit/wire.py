"""The contract between the facade and the models: tensor names, request parameters and what travels inside them.

Both sides import this module, and `clips`, and nothing else of each other. Tensors are named once here; the `.pbtxt`
files repeat the names because Triton wants them there, and `tests/repository` checks that the two agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

SAMPLE_RATE = 16_000
"""Sample rate in Hz of all audio between `audio_chunks` and an ASR engine."""

SPEECH_FRAME = 512
"""Samples of 16 kHz of which it is told whether they are speech."""

# --- tensors -------------------------------------------------------------------------------------------------------
AUDIO = "AUDIO"
"""UINT8[-1]: the encoded file, or empty when the request parameter `path` names it."""
PCM = "PCM"
"""INT16[-1]: mono samples; 16 kHz towards an ASR engine, the model's own rate out of a TTS engine."""
SPEECH = "SPEECH"
"""UINT8[-1]: of each SPEECH_FRAME of the PCM 1 where somebody speaks, else 0; the last frame may be a part of one. An
ASR engine does without where it is not given."""
START = "START"
"""FP32[1]: where the chunk begins in the file, in seconds."""
INDEX = "INDEX"
"""INT32[1]: the chunk's place in the file; -1 for the empty chunk of a file without speech."""
CHANNEL = "CHANNEL"
"""INT32[1]: -1 for the mono mix, else the number of the channel the chunk was cut from (0 left, 1 right)."""
DURATION = "DURATION"
"""FP32[1]: seconds of audio decoded so far; the largest one of a request is the file's duration."""
SEGMENTS = "SEGMENTS"
"""STRING[1]: `dump_segments`, times in seconds from the start of the file."""
LANGUAGE = "LANGUAGE"
"""STRING[1]: ISO 639-1 code; out of an ASR engine what was spoken, into a TTS engine what to speak (empty: the
voice's own)."""
AUDIO_ERROR = "AUDIO_ERROR"
"""STRING[1]: the ensemble's name for the ERROR of `audio_chunks`; its ERROR is the engine's."""
ERROR = "ERROR"
"""STRING[1]: empty, or `Fault.dump()`. Models answer with faults as data, never with a Triton error: on Triton < 26.05
an error in the middle of an ensemble leaks an in-flight request and the model can never be unloaded."""
TEXT = "TEXT"
"""STRING[1]: the text to speak."""
VOICE = "VOICE"
"""STRING[1]: the voice's name."""
SPEED = "SPEED"
"""FP32[1]: playback rate, 1.0 is natural."""

# --- models ----------------------------------------------------------------------------------------------------------
AUDIO_CHUNKS = "audio_chunks"
"""The first step of every ASR ensemble: a file in, chunks of speech out."""

# --- request parameters ----------------------------------------------------------------------------------------------
PATH = "path"
"""Request parameter of an ASR ensemble: a file under the server's audio roots, read instead of AUDIO."""
PATH_KEY = "path_key"
"""Request parameter that goes with `path`: the value of PATH_KEY_VARIABLE, where tritonserver has one."""
PATH_KEY_VARIABLE = "TALKIES_PATH_KEY"
"""In tritonserver's environment, which other users cannot read: what only the facade knows."""
VISIBLE_DEVICES_VARIABLE = "TALKIES_VISIBLE_DEVICES"
"""In tritonserver's environment: the GPUs that engines may use, where tritonserver itself is to see none."""
CHANNELS = "channels"
"""Request parameter of an ASR ensemble: "mono" (default) mixes all channels, "split" cuts chunks from each of two."""

MONO, SPLIT = "mono", "split"
TASKS = ("transcribe", "translate")

# --- config.pbtxt parameters, written by `talkies render` -----------------------------------------------------------
CONFIG_WEIGHTS = "weights"
CONFIG_DEVICE = "device"
CONFIG_CPU_THREADS = "cpu_threads"
CONFIG_AUDIO_ROOTS = "audio_roots"
CONFIG_SAMPLE_RATE = "SAMPLE_RATE"
"""Of a TTS engine's PCM, in Hz; gRPC clients read it from the model's configuration."""
CONFIG_VOICE_FOLDERS = "voice_folders"
"""Folders of reference clips, joined by the separator of paths; a later one's clip shadows an earlier one's."""
CONFIG_DEFAULT_LANGUAGE = "default_language"
"""What a clip speaks that does not say it: the code of the registry's entry."""
CONFIG_REFUSE_CPU = "refuse_cpu"
"""Whether an engine is too slow without a GPU and nobody has allowed it to run all the same: "true" or "false"."""
CONFIG_MAX_AUDIO_SECONDS = "max_audio_seconds"
CONFIG_VAD_CHUNK_THRESHOLD = "vad_chunk_threshold"
CONFIG_VAD_MAX_SPEECH = "vad_max_speech"
CONFIG_VAD_MIN_SILENCE_MS = "vad_min_silence_ms"
CONFIG_VAD_SPEECH_PAD_MS = "vad_speech_pad_ms"
CONFIG_VAD_THRESHOLD = "vad_threshold"


class FaultCode(StrEnum):
    """Whose fault a fault is."""

    INVALID = "invalid"
    """The request's: bad audio, unknown voice, a language the model does not speak. The facade answers 400."""
    INTERNAL = "internal"
    """Ours. The facade answers 500."""
    UNAVAILABLE = "unavailable"
    """The machine's, for now: no memory, descriptors or disk. The facade tries once more, then answers 503."""
    BROKEN = "broken"
    """The engine's process can do nothing any more: its GPU is lost. The facade replaces it and tries once more."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request or one of its chunks has no result; the content of the ERROR tensor."""

    code: FaultCode
    message: str
    param: str = ""
    """The request field at fault, if one is: "file", "voice", "language"."""

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Fault | None:
        """The fault in an ERROR tensor, None for an empty one."""
        if not text:
            return None
        data = json.loads(text)
        return cls(FaultCode(data["code"]), data["message"], data["param"])


class InvalidInput(Exception):
    """Raised inside a model when the request is at fault; becomes `Fault(INVALID, str(error), param)`."""

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a text as a model knows it, and the natural logarithm of its probability."""

    utf8: bytes
    """A character may be in several pieces."""
    logprob: float


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word; `start` and `end` in seconds."""

    word: str
    start: float
    end: float
    tokens: tuple[Token, ...] = ()
    """Empty unless `AsrOptions.logprobs` asks for them."""

    def shifted(self, seconds: float) -> Word:
        """The same word, later by `seconds`."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)


@dataclass(frozen=True, slots=True)
class Confidence:
    """How far an engine trusts what it has heard, in openai-whisper's measures."""

    avg_logprob: float
    """Mean log probability of the tokens."""
    compression_ratio: float
    """Of the text by zlib; above 2.4 it repeats itself."""
    no_speech_prob: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of recognised speech; `start` and `end` in seconds. `words` is empty when no word times were made."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    confidence: Confidence | None = None
    """None of an engine that does not know it."""

    def shifted(self, seconds: float) -> Segment:
        """The same segment, later by `seconds`."""
        words = tuple(word.shifted(seconds) for word in self.words)
        return replace(self, start=self.start + seconds, end=self.end + seconds, words=words)


def dump_segments(segments: Iterable[Segment]) -> str:
    return json.dumps([_dumped(segment) for segment in segments], ensure_ascii=False)


def _dumped(segment: Segment) -> dict[str, Any]:
    return {**asdict(replace(segment, words=())), "words": [_dumped_word(word) for word in segment.words]}


def _dumped_word(word: Word) -> dict[str, Any]:
    dumped = {"word": word.word, "start": word.start, "end": word.end}
    if not word.tokens:
        return dumped
    return {**dumped, "tokens": [{"bytes": list(token.utf8), "logprob": token.logprob} for token in word.tokens]}


def load_segments(text: str) -> list[Segment]:
    return [
        Segment(
            s["start"],
            s["end"],
            s["text"],
            tuple(Word(w["word"], w["start"], w["end"], _loaded(w.get("tokens", ()))) for w in s["words"]),
            Confidence(**s["confidence"]) if s["confidence"] else None,
        )
        for s in json.loads(text)
    ]


def _loaded(tokens: Iterable[Mapping[str, Any]]) -> tuple[Token, ...]:
    return tuple(Token(bytes(token["bytes"]), token["logprob"]) for token in tokens)


@dataclass(frozen=True, slots=True)
class AsrOptions:
    """What a caller may ask of a transcription; each is a request parameter of the ensemble, absent when default."""

    language: str = ""
    """ISO 639-1 code of the speech; empty lets the engine detect it or use its default."""
    languages: tuple[str, ...] = ()
    """Codes that may be spoken, where `language` is empty: an engine that detects looks at no others, one that cannot
    takes the first. Empty for all. As a request parameter they are joined by commas."""
    task: str = "transcribe"
    """"transcribe", or "translate" into English (Whisper) or into `target_language` (Canary)."""
    target_language: str = ""
    prompt: str = ""
    """Text that sets vocabulary and style, as OpenAI's `prompt`."""
    temperature: float = 0.0
    word_timestamps: bool = False
    logprobs: bool = False
    """Words, which come with it, have their tokens, of an engine that rates them."""
    text_only: bool = False
    """Nobody looks at times: an engine may save itself the trouble and give one segment per chunk."""
    vad_threshold: float | None = None
    """Probability from which on `audio_chunks` takes sound for speech; None for the server's, as in the next two."""
    vad_min_silence_ms: float | None = None
    """Silence in which it may cut."""
    vad_speech_pad_ms: float | None = None
    """Sound that it keeps around speech."""

    def to_parameters(self) -> dict[str, str | int | bool]:
        """The request parameters that `from_parameters` reads back; floats and lists travel as strings."""
        return {
            field.name: _parameter(value)
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        }

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, object]) -> AsrOptions:
        """The options among a request's parameters, which may hold others too. Raises InvalidInput on a wrong value."""
        try:
            temperature = float(str(parameters.get("temperature", 0.0)))
        except ValueError:
            raise InvalidInput("temperature must be a number", "temperature") from None
        if not 0 <= temperature <= 1:  # also false for NaN
            raise InvalidInput("temperature must lie between 0 and 1", "temperature")
        task = str(parameters.get("task", "transcribe"))
        if task not in TASKS:
            raise InvalidInput(f"task must be one of: {', '.join(TASKS)}", "task")
        return cls(
            language=str(parameters.get("language", "")),
            languages=tuple(filter(None, map(str.strip, str(parameters.get("languages", "")).split(",")))),
            task=task,
            target_language=str(parameters.get("target_language", "")),
            prompt=str(parameters.get("prompt", "")),
            temperature=temperature,
            word_timestamps=_flag(parameters, "word_timestamps"),
            logprobs=_flag(parameters, "logprobs"),
            text_only=_flag(parameters, "text_only"),
            vad_threshold=_number(parameters, "vad_threshold", 0, 1),
            vad_min_silence_ms=_number(parameters, "vad_min_silence_ms", 0, 10_000),
            vad_speech_pad_ms=_number(parameters, "vad_speech_pad_ms", 0, 5_000),
        )


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a TTS engine draws what it says; each is a request parameter, None (absent) for the engine's own default."""

    temperature: float | None = None
    """0 draws nothing: the likeliest is said, the same every time."""
    top_k: int | None = None
    """How many candidates there are; 0 for all."""
    top_p: float | None = None
    repetition_penalty: float | None = None
    max_new_tokens: int | None = None
    """Length of a sentence or so, in the model's frames."""

    def to_parameters(self) -> dict[str, str]:
        """The request parameters that `from_parameters` reads back; numbers travel as strings."""
        return {name: str(value) for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, object]) -> Sampling:
        """The values among a request's parameters, which may hold others too. Raises InvalidInput on a wrong value."""
        return cls(
            temperature=_number(parameters, "temperature", 0.0, 2.0),
            top_k=_count(parameters, "top_k", 0, 1000),
            top_p=_number(parameters, "top_p", 0.01, 1.0),
            repetition_penalty=_number(parameters, "repetition_penalty", 1.0, 2.0),
            max_new_tokens=_count(parameters, "max_new_tokens", 1, 8192),
        )


def _number(parameters: Mapping[str, object], name: str, least: float, most: float) -> float | None:
    value = parameters.get(name)
    if value is None:
        return None
    try:
        number = float(str(value))
    except ValueError:
        raise InvalidInput(f"{name} must be a number", name) from None
    if not least <= number <= most:  # also true of NaN
        raise InvalidInput(f"{name} must lie between {least:g} and {most:g}", name)
    return number


def _count(parameters: Mapping[str, object], name: str, least: int, most: int) -> int | None:
    number = _number(parameters, name, least, most)
    if number is None:
        return None
    if not number.is_integer():
        raise InvalidInput(f"{name} must be a whole number", name)
    return int(number)


def _parameter(value: Any) -> str | int | bool:
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value) if isinstance(value, float) else value


def _flag(parameters: Mapping[str, object], name: str) -> bool:
    return str(parameters.get(name, False)).lower() in {"true", "1"}
