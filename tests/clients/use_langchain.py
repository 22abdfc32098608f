"""LangChain's OpenAIWhisperParser, which sends mp3. usage: use_langchain.py URL WAV_FILE FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

import imageio_ffmpeg
import pydub
from answers import show
from langchain_community.document_loaders.blob_loaders import FileSystemBlobLoader
from langchain_community.document_loaders.generic import GenericLoader
from langchain_community.document_loaders.parsers.audio import OpenAIWhisperParser
from langchain_core.documents.base import Blob

url, recording, _ = sys.argv[1:]
pydub.AudioSegment.converter = imageio_ffmpeg.get_ffmpeg_exe()


def parser(**options: str) -> OpenAIWhisperParser:
    return OpenAIWhisperParser(api_key="unused", base_url=f"{url}/v1", **options)


def parse(**options: str) -> str:
    (document,) = parser(**options).lazy_parse(Blob.from_path(recording))
    return str(document.page_content)


folder = FileSystemBlobLoader(Path(recording).parent, glob=Path(recording).name)
(loaded,) = GenericLoader(folder, parser()).load()
show(
    "langchain-community",
    transcripts={
        "plain": parse(),
        "verbose_json": parse(response_format="verbose_json"),
        "srt": parse(response_format="srt"),
        "slug": parse(model="whisper-base", language="en"),
        "loader": loaded.page_content,
    },
)
