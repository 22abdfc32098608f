"""LiveKit's OpenAI plugin, STT and TTS. usage: use_livekit.py URL WAV_FILE FOLDER"""

from __future__ import annotations

import asyncio
import sys
import wave
from pathlib import Path

from answers import show
from livekit import rtc
from livekit.plugins import openai

url, recording, folder = sys.argv[1:]
server = {"base_url": f"{url}/v1", "api_key": "unused"}


def frame() -> rtc.AudioFrame:
    with wave.open(recording) as wav:
        return rtc.AudioFrame(wav.readframes(wav.getnframes()), wav.getframerate(), 1, wav.getnframes())


async def hear(**options: object) -> tuple[str, str]:
    """The text and its language."""
    stt = openai.STT(**server, **options)
    event = await stt.recognize(frame())
    await stt.aclose()
    return event.alternatives[0].text, str(event.alternatives[0].language)


async def speak(name: str, **options: object) -> str:
    tts = openai.TTS(**server, **options)
    spoken = Path(folder) / f"{name}.wav"
    stream = tts.synthesize("The quick brown fox jumps over the lazy dog.")
    spoken.write_bytes((await stream.collect()).to_wav_bytes())
    await stream.aclose()
    await tts.aclose()
    return spoken.name


async def main() -> None:
    plain, _ = await hear()
    whisper, detected = await hear(model="whisper-1", detect_language=True)
    keywords, _ = await hear(model="gpt-transcribe", keywords=["Kennedy"])
    show(
        "livekit-agents",
        "livekit-plugins-openai",
        transcripts={"plain": plain, "whisper-1": whisper, "gpt-transcribe": keywords},
        speeches={
            "plain": await speak("plain"),
            "tts-1 opus": await speak("opus", model="tts-1", voice="nova", response_format="opus"),
            "pcm": await speak("pcm", response_format="pcm"),
        },
        facts={"language": detected},
    )


asyncio.run(main())
