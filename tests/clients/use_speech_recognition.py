"""SpeechRecognition's recognize_openai. usage: use_speech_recognition.py URL WAV_FILE FOLDER"""

from __future__ import annotations

import os
import sys

import speech_recognition
from answers import show

url, recording, _ = sys.argv[1:]
os.environ |= {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "unused"}
recognizer = speech_recognition.Recognizer()
with speech_recognition.AudioFile(recording) as source:
    audio = recognizer.record(source)
show(
    "SpeechRecognition",
    transcripts={
        "plain": recognizer.recognize_openai(audio),
        "gpt-4o-mini-transcribe": recognizer.recognize_openai(audio, model="gpt-4o-mini-transcribe"),
        "options": recognizer.recognize_openai(audio, language="en", prompt="Kennedy", temperature=0.0),
    },
)
