"""faster-whisper called in-process.

Runs in the environment of the whisper engine: a job as JSON in, figures as JSON out. The settings are the engine's:
int8, beam 5, no times, the language detected, one thread per usable core.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from faster_whisper import BatchedInferencePipeline, WhisperModel

BEAM = 5


def timed(transcribe: Any, path: str, **options: Any) -> tuple[float, str]:
    """Seconds, and the text."""
    started = time.perf_counter()
    segments, _ = transcribe(path, beam_size=BEAM, **options)
    text = " ".join(segment.text.strip() for segment in segments)
    return time.perf_counter() - started, text


def memory(field: str) -> float:
    """A figure of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) / 1024


def main() -> None:
    job = json.load(sys.stdin)
    threads = len(os.sched_getaffinity(0))
    model = WhisperModel(job["weights"], device="cpu", compute_type="int8", cpu_threads=threads, local_files_only=True)
    clip = partial(timed, model.transcribe, without_timestamps=True)
    clip(job["short"])
    figures: dict[str, Any] = {"first_result_at": time.time(), "threads": threads}
    if not job["cold_only"]:
        latencies = [clip(job["short"])[0] for _ in range(job["short_repeats"])]
        figures["latency"] = statistics.median(latencies)
        rounds = [sum(clip(path)[0] for path in job["clips"]) for _ in range(job["clip_repeats"])]
        figures["clips"] = statistics.median(rounds)
        figures["rss_short"] = memory("VmRSS")
        batched = BatchedInferencePipeline(model)
        long = {
            "sequential": timed(model.transcribe, job["long"], vad_filter=True),
            **{f"batch {n}": timed(batched.transcribe, job["long"], batch_size=n) for n in (4, 8)},
        }
        figures["long"] = {name: seconds for name, (seconds, _) in long.items()}
        figures["text"] = min(long.values())[1]
        figures["rss_peak"] = memory("VmHWM")
    json.dump(figures, sys.stdout)


main()
