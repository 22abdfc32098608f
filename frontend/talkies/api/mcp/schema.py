"""Arguments and structured results of the MCP tools, as agents see them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NoArguments(Arguments):
    pass


class PathArgument(Arguments):
    path: str = Field(description="The file's path in staging, as list_files shows it, e.g. lectures/one.mp3.")


class PutFile(Arguments):
    path: str = Field(description="Where to put the file in staging, e.g. lectures/one.mp3; replaces what is there.")
    content_base64: str = Field(description="The file's bytes in base64.")


class Transcribe(Arguments):
    file_path: str = Field(description="The audio or video: an http(s) URL, or a path that list_files shows.")
    model: str = Field("", description="A slug of list_models; the server's default otherwise.")
    language: str = Field(
        "", description="ISO 639-1 code of the speech, e.g. en; default: the model's own or what it detects."
    )
    response_format: Literal["json", "verbose_json", "text", "srt", "vtt"] = Field(
        "json",
        description="json: {text}; verbose_json: also segments and words with times; text: plain; srt, vtt: subtitles.",
    )
    diarization: bool = Field(
        False, description="Treat the left and right channel of a stereo recording as two speakers, L and R."
    )


class Speak(Arguments):
    input: str = Field(description="The text to speak, in the voice's language.")
    path: str = Field(
        description="Where to stage the audio, e.g. answers/hello.mp3; its suffix is the format: mp3, opus, aac, flac, "
        "wav or pcm. Replaces what is there."
    )
    voice: str = Field("", description="A name of list_voices; the model's default otherwise.")
    model: str = Field("", description="The voice's model; the server's default otherwise.")
    speed: float = Field(1.0, ge=0.25, le=4)


class ListedVoice(BaseModel):
    voice: str
    model: str
    default: bool = Field(description="The model speaks with it when none is named.")
    language: str = Field("", description="What it speaks; empty: not known.")


class VoiceList(BaseModel):
    voices: list[ListedVoice]


class ListedModel(BaseModel):
    slug: str = Field(description="What transcribe takes as model.")
    executor: str = Field(description="The engine.")
    default_source_lang: str = Field(description="Language of the speech unless told otherwise; empty: detected.")
    default_target_lang: str = Field(description="Language of the text, for models that translate by default.")
    default_task: str
    loaded: bool = Field(description="In memory now; others are loaded by their first request, which takes longer.")


class ModelList(BaseModel):
    result: list[ListedModel]


class ListedFile(BaseModel):
    path: str
    size: int = Field(description="Bytes.")
    modified: str = Field(description="ISO 8601, UTC.")


class FileList(BaseModel):
    files: list[ListedFile]


class Deleted(BaseModel):
    path: str
    deleted: bool
