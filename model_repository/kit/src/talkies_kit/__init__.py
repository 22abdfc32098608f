"""The wire contract of talkies' Triton models (`wire`) and the base classes of its engines (`asr`, `tts`)."""
