"""The wire contract of talkies' Triton models (`wire`) and the base classes of its engines (`asr`, `tts`)."""

import os

QUIET = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
"""Keeps libraries from telling their makers that they are used; onnxruntime also writes into HOME."""

os.environ.update(QUIET)  # before any of them is imported
