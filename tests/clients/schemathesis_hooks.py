"""Half of what schemathesis makes up gets a real model, a real name of a format and a real sound, so that it reaches
the engines; the other half stays garbage. Run in schemathesis' own environment.
"""

from __future__ import annotations

import io
import math
import struct
import wave
import zlib
from typing import Any

import schemathesis

_SPEECH_FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")
_TRANSCRIPT_FORMATS = ("json", "text", "verbose_json", "srt", "vtt")


def _tone() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        samples = (round(8000 * math.sin(i * 0.17)) for i in range(8_000))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return out.getvalue()


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    if not isinstance(body, dict):
        return body
    dice = zlib.crc32(repr(sorted(body.items(), key=str)).encode(errors="replace"))
    speech = "input" in body
    if isinstance(body.get("input"), str):
        body["input"] = body["input"][:80]
    if dice % 2:
        body["model"] = "kokoro-82m" if speech else "whisper-base"
        if speech:
            body.pop("voice", None)
    if dice % 4 == 3:
        formats = _SPEECH_FORMATS if speech else _TRANSCRIPT_FORMATS
        body["response_format"] = formats[dice // 4 % len(formats)]
        if not speech:
            body |= {"file": _tone(), "file_path": "", "language": "en"}
    return body


@schemathesis.hook
def map_path_parameters(context: schemathesis.HookContext, path_parameters: Any) -> Any:
    if isinstance(path_parameters, dict) and zlib.crc32(repr(path_parameters).encode(errors="replace")) % 2:
        return {name: "whisper-base" if name == "model_id" else value for name, value in path_parameters.items()}
    return path_parameters
