"""openai 0.28, the last one before its clients became objects. usage: use_openai_0_28.py URL WAV_FILE FOLDER"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from answers import show

openai: Any = import_module("openai")  # whose types are not those of the version that talkies' tests know
url, recording, _ = sys.argv[1:]
openai.api_base, openai.api_key = f"{url}/v1", "unused"


def transcribe(**options: object) -> Any:
    with Path(recording).open("rb") as file:
        return openai.Audio.transcribe("whisper-1", file, **options)


verbose = transcribe(response_format="verbose_json")
with Path(recording).open("rb") as file:
    translated = openai.Audio.translate("whisper-1", file)
show(
    "openai",
    transcripts={
        "json": transcribe()["text"],
        "verbose_json": verbose["text"],
        "srt": transcribe(response_format="srt"),
        "translate": translated["text"],
    },
    facts={
        "language": verbose["language"],
        "models": "whisper-base" in [model["id"] for model in openai.Model.list()["data"]],
    },
)
