"""litellm's `openai/` provider against a talkies; one JSON object on standard output.

usage: use_litellm.py URL AUDIO_FILE SPEECH_FILE
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import litellm
import openai

url, audio, spoken = sys.argv[1:]
server = {"api_base": f"{url}/v1", "api_key": "unused"}


def transcribe(model: str = "openai/whisper-base", **options: object) -> dict[str, object]:
    with Path(audio).open("rb") as file:
        answer = litellm.transcription(model=model, file=file, **server, **options)
    return answer.model_dump()


speech = litellm.speech(
    model="openai/kokoro-82m",
    voice="af_heart",
    input="The quick brown fox jumps over the lazy dog.",
    response_format="wav",
    **server,
)
speech.write_to_file(spoken)
try:
    transcribe("openai/no-such-model")
    error = None
except openai.NotFoundError as caught:
    error = str(caught)
print(
    json.dumps(
        {
            "plain": transcribe(),
            "words": transcribe(response_format="verbose_json", timestamp_granularities=["word", "segment"]),
            "options": transcribe(language="en", prompt="Kennedy", temperature=0.0, response_format="json"),
            "error": error,
            "version": version("litellm"),
        }
    )
)
