"""pipecat's OpenAI services, each in a pipeline. usage: use_pipecat.py URL WAV_FILE FOLDER"""

from __future__ import annotations

import asyncio
import sys
import wave
from collections.abc import Sequence
from pathlib import Path

from answers import show
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.worker import PipelineParams
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.tests.utils import run_test

url, recording, folder = sys.argv[1:]
server = {"base_url": f"{url}/v1", "api_key": "unused"}


async def frames(service: FrameProcessor, *sent: Frame) -> Sequence[Frame]:
    """What the service makes of the sent frames."""
    params = PipelineParams(audio_in_sample_rate=16_000, audio_out_sample_rate=24_000)
    down, up = await run_test(service, frames_to_send=sent, pipeline_params=params, start_timeout=30)
    for frame in (*down, *up):
        if isinstance(frame, ErrorFrame):
            raise SystemExit(frame.error)
    return down


async def hear(**options: object) -> str:
    with wave.open(recording) as wav:
        pcm = wav.readframes(wav.getnframes())
    made = await frames(
        OpenAISTTService(**server, settings=OpenAISTTService.Settings(**options)),
        VADUserStartedSpeakingFrame(),
        *(InputAudioRawFrame(pcm[at : at + 16_000], 16_000, 1) for at in range(0, len(pcm), 16_000)),
        VADUserStoppedSpeakingFrame(),
    )
    return " ".join(frame.text for frame in made if isinstance(frame, TranscriptionFrame))


async def speak(name: str, **options: object) -> str:
    # It gives a model that is still to be loaded three seconds.
    service = OpenAITTSService(**server, stop_frame_timeout_s=60, settings=OpenAITTSService.Settings(**options))
    made = await frames(service, TTSSpeakFrame("The quick brown fox jumps over the lazy dog."))
    spoken = Path(folder) / f"{name}.wav"
    with wave.open(str(spoken), "wb") as wav:
        wav.setparams((1, 2, 24_000, 0, "NONE", ""))
        wav.writeframes(b"".join(frame.audio for frame in made if isinstance(frame, TTSAudioRawFrame)))
    return spoken.name


async def main() -> None:
    show(
        "pipecat-ai",
        transcripts={
            "plain": await hear(),
            "whisper-1": await hear(model="whisper-1"),
            "options": await hear(prompt="Kennedy", keywords=["America"]),
        },
        speeches={"plain": await speak("plain"), "tts-1": await speak("tts-1", model="tts-1", voice="nova")},
    )


asyncio.run(main())
