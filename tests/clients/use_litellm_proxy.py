"""OpenAI's client before a LiteLLM proxy before a talkies; see answers.py.

usage: use_litellm_proxy.py PROXY_URL AUDIO_FILE FOLDER, with the proxy's key in LITELLM_MASTER_KEY
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import openai
from answers import show

url, recording, folder = sys.argv[1:]
FOX = "The quick brown fox jumps over the lazy dog."
client = openai.OpenAI(base_url=f"{url}/v1", api_key=os.environ["LITELLM_MASTER_KEY"], max_retries=0, timeout=120)


def transcribe(**options: Any) -> str:
    answer = client.audio.transcriptions.create(model="whisper-1", file=Path(recording), **options)
    return json.loads(answer)["text"] if isinstance(answer, str) else answer.text  # the proxy makes JSON of any answer


def speak(response_format: Any) -> str:
    speech = client.audio.speech.create(model="tts-1", voice="alloy", input=FOX, response_format=response_format)
    speech.write_to_file(Path(folder) / f"speech.{response_format}")
    return f"speech.{response_format}"


words = client.audio.transcriptions.create(
    model="whisper-1", file=Path(recording), response_format="verbose_json", timestamp_granularities=["word", "segment"]
)
try:
    client.audio.speech.create(model="tts-1", voice="no-such-voice", input=FOX)
    refused = None
except openai.APIStatusError as error:
    refused = error.status_code
show(
    "litellm",
    transcripts={
        "json": transcribe(),
        "text": transcribe(response_format="text"),
        "verbose_json": words.text,
    },
    speeches={made: speak(made) for made in ("mp3", "opus", "wav")},
    facts={
        "words": bool(words.words and words.segments),
        "cues": transcribe(response_format="srt").count("-->") > 1,
        "duration": round(words.duration),
        "models": sorted(model.id for model in client.models.list()),
        "refused": refused,
    },
)
