"""talkies: OpenAI's audio API in front of NVIDIA Triton Inference Server."""

from importlib.metadata import version

__version__ = version("talkies")
