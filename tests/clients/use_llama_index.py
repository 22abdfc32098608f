"""LlamaIndex's WhisperReader. usage: use_llama_index.py URL WAV_FILE FOLDER"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from answers import show
from llama_index.readers.whisper import WhisperReader

url, recording, _ = sys.argv[1:]


def reader(**options: object) -> WhisperReader:
    return WhisperReader(api_key="unused", client_kwargs={"base_url": f"{url}/v1"}, **options)


show(
    "llama-index-readers-whisper",
    transcripts={
        "path": reader().load_data(recording)[0].text,
        "bytes": reader().load_data(Path(recording).read_bytes())[0].text,
        "async": asyncio.run(reader().aload_data(recording))[0].text,
        "gpt-4o-transcribe": reader(model="gpt-4o-transcribe", prompt="Kennedy").load_data(recording)[0].text,
    },
)
