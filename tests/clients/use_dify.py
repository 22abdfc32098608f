"""The model classes that Dify's OpenAI-compatible plugin is made of, against a talkies; see answers.py.

usage: use_dify.py URL AUDIO_FILE FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from answers import show
from dify_plugin.interfaces.model.openai_compatible.speech2text import OAICompatSpeech2TextModel
from dify_plugin.interfaces.model.openai_compatible.tts import OAICompatText2SpeechModel

url, recording, folder = sys.argv[1:]
FOX = "The quick brown fox jumps over the lazy dog."
server = {"endpoint_url": f"{url}/v1", "api_key": "unused"}
hears, speaks = OAICompatSpeech2TextModel([]), OAICompatText2SpeechModel([])


def transcribe(model: str) -> str:
    with Path(recording).open("rb") as file:
        return hears.invoke(model, server, file)


def speak(file: str, **options: str) -> str:
    """In the first of the credentials' voices, as the plugin does."""
    credentials = server | options
    voice = speaks.get_tts_model_voices("tts-1", credentials)[0]["value"]
    sound = b"".join(speaks.invoke("tts-1", "tenant", credentials, FOX, voice))
    (Path(folder) / file).write_bytes(sound)
    return file


hears.validate_credentials("whisper-1", server)
speaks.validate_credentials("tts-1", server)
show(
    "dify-plugin",
    transcripts={model: transcribe(model) for model in ("whisper-1", "whisper-base")},
    speeches={"default": speak("default.mp3"), "voice": speak("voice.wav", voices="onyx, nova", audio_type="wav")},
)
