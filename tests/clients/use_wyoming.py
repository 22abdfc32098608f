"""A Wyoming client, as Home Assistant is one, speaking to wyoming-openai before a talkies; JSON on standard output.

usage: use_wyoming.py WYOMING_URI WAV_FILE SPEECH_FILE STREAMED_SPEECH_FILE
"""

from __future__ import annotations

import asyncio
import json
import sys
import wave
from importlib.metadata import version

from wyoming.asr import Transcribe, Transcript, TranscriptChunk
from wyoming.audio import AudioChunk, AudioStart, AudioStop, wav_to_chunks
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

uri, recording, spoken, streamed = sys.argv[1:]


async def read(client: AsyncClient) -> Event:
    event = await client.read_event()
    if event is None:
        raise SystemExit("wyoming-openai hung up")
    if Error.is_type(event.type):
        raise SystemExit(f"wyoming-openai: {event.data}")
    return event


async def describe() -> dict[str, object]:
    async with AsyncClient.from_uri(uri, read_timeout=60) as client:
        await client.write_event(Describe().event())
        while not Info.is_type((event := await read(client)).type):
            pass
    info = Info.from_event(event)
    return {
        "asr": [model.name for program in info.asr for model in program.models],
        "tts": [voice.name for program in info.tts for voice in program.voices],
    }


async def transcribe(model: str) -> dict[str, object]:
    pieces = []
    async with AsyncClient.from_uri(uri, read_timeout=120) as client:
        await client.write_event(Transcribe(name=model, language="en").event())
        with wave.open(recording) as wav:
            for chunk in wav_to_chunks(wav, samples_per_chunk=4096, start_event=True, stop_event=True):
                await client.write_event(chunk.event())
        while not Transcript.is_type((event := await read(client)).type):
            if TranscriptChunk.is_type(event.type):
                pieces.append(TranscriptChunk.from_event(event).text)
    return {"text": Transcript.from_event(event).text, "pieces": pieces}


async def speak(voice: str) -> dict[str, object]:
    async with AsyncClient.from_uri(uri, read_timeout=120) as client:
        text = "The quick brown fox jumps over the lazy dog."
        await client.write_event(Synthesize(text, voice=SynthesizeVoice(name=voice)).event())
        while not AudioStart.is_type((event := await read(client)).type):
            pass
        start = AudioStart.from_event(event)
        chunks = 0
        with wave.open(spoken, "wb") as wav:
            wav.setparams((start.channels, start.width, start.rate, 0, "NONE", ""))
            while not AudioStop.is_type((event := await read(client)).type):
                if AudioChunk.is_type(event.type):
                    wav.writeframes(AudioChunk.from_event(event).audio)
                    chunks += 1
    return {"rate": start.rate, "channels": start.channels, "width": start.width, "chunks": chunks}


async def speak_while_written(voice: str) -> None:
    """As Home Assistant does while a language model still writes the answer."""
    async with AsyncClient.from_uri(uri, read_timeout=120) as client:
        await client.write_event(SynthesizeStart(voice=SynthesizeVoice(name=voice)).event())
        for piece in ("The quick brown fox ", "jumps over ", "the lazy dog."):
            await client.write_event(SynthesizeChunk(piece).event())
        await client.write_event(SynthesizeStop().event())
        with wave.open(streamed, "wb") as wav:
            wav.setparams((1, 2, 24_000, 0, "NONE", ""))
            while not SynthesizeStopped.is_type((event := await read(client)).type):
                if AudioChunk.is_type(event.type):
                    wav.writeframes(AudioChunk.from_event(event).audio)


async def main() -> None:
    answers = {
        "info": await describe(),
        "version": version("wyoming-openai"),
        "heard": await transcribe("whisper-base"),
        "speech": await speak("af_heart"),
    }
    await speak_while_written("am_adam")
    print(json.dumps(answers))


asyncio.run(main())
