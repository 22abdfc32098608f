"""One run: the libraries in-process, then the same work through the server, never both at the same time."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from talkies.families import MODEL_REPOSITORY
from talkies.registry import Registry
from talkies.settings import PROJECT, Settings
from talkies.setup import environments, weights

from benchmarks import drills, load, long, quality, soak
from benchmarks.audio import SENTENCES, Corpus, corpus, seconds
from benchmarks.engines import measure_engines
from benchmarks.report import show
from benchmarks.server import measure, serving, subject
from harness.server import Service

HERE = Path(__file__).parent
VOICE = "af_heart"
console = Console(stderr=True)


def main() -> None:
    args = _arguments()
    if args.gpu or args.memory:
        sys.exit(not measure_engines(Settings.load(), args.models, gpu=args.gpu, tiny=args.tiny))
    settings = Settings.load()
    if args.load:
        sys.exit(not load.main(settings, args.seconds))
    if args.drills:
        sys.exit(not drills.main(settings))
    if args.long:
        sys.exit(not long.main(settings, args.long))
    if args.soak:
        sys.exit(not soak.main(settings, args.soak))
    if args.audio is None and (beside := PROJECT.parent / "shared" / "audio").is_dir():
        args.audio = beside
    if args.quality is not None:
        quality.main(settings, args.audio, args.quality)
        return
    registry = Registry.load(settings.models_file)
    service: Service
    with tempfile.TemporaryDirectory(prefix="talkies-bench-") as scratch, contextlib.ExitStack() as stack:
        recordings = corpus(args.audio, PROJECT / "tests" / "data" / "jfk.flac", Path(scratch))
        figures: dict[str, Any] = {"about": _about(args.audio, recordings), "long_seconds": seconds(recordings.long)}
        whisper, kokoro = (registry.find(alias) for alias in ("whisper-1", "tts-1"))
        figures["whisper"] = _library(
            settings,
            "whisper",
            weights=str(weights.folder(settings, whisper)),
            short=str(recordings.short),
            clips=[str(clip) for clip in recordings.clips],
            long=str(recordings.long),
            short_repeats=3 * args.repeats,
            clip_repeats=args.repeats,
        )
        figures["kokoro"] = _library(
            settings,
            "kokoro",
            weights=str(weights.folder(settings, kokoro)),
            vocabulary=str(MODEL_REPOSITORY / "kokoro" / "1" / "vocabulary.json"),
            voice=VOICE,
            sentences=SENTENCES,
            repeats=args.repeats,
        )
        console.print("through the server")
        if args.url:
            service = Service(args.url, args.grpc)
        else:
            data = Path(scratch) / "data"
            data.mkdir()
            service = stack.enter_context(serving(settings, data))
        figures["server"] = measure(subject(service, VOICE), recordings, repeats=args.repeats)
    texts = (_words(figures["whisper"].pop("text")), _words(figures["server"].pop("text")))
    figures["words"] = [len(words) for words in texts]
    figures["agreement"] = difflib.SequenceMatcher(None, *texts, autojunk=False).ratio()
    show(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="The libraries in-process beside the server.")
    each = parser.add_mutually_exclusive_group()
    each.add_argument("--gpu", action="store_true", help="instead, each model on the GPU: load, two requests, memory")
    each.add_argument("--memory", action="store_true", help="the same on the CPU")
    parser.add_argument("--models", nargs="+", default=(), metavar="SLUG", help="only these of them")
    parser.add_argument("--tiny", action="store_true", help="of random weights the smallest that load")
    parser.add_argument("--audio", type=Path, help="folder with long/*.ogg and librispeech*/ or clips/")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the short measurements, of which the median")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    parser.add_argument("--url", help="measure this server instead of starting one; it must be idle")
    parser.add_argument("--grpc", default="127.0.0.1:8001", metavar="HOST:PORT", help="that server's gRPC address")
    parser.add_argument("--load", action="store_true", help="instead, 50 clients of every kind at once")
    parser.add_argument("--drills", action="store_true", help="instead, kill, stop and starve every part")
    parser.add_argument("--soak", type=int, metavar="ROUNDS", help="instead, 200 aborts and 50 loads so many times")
    each.add_argument(
        "--quality", nargs="*", metavar="SET", help="instead, what is heard wrong of all of --audio, or these"
    )
    parser.add_argument("--long", type=float, metavar="HOURS", help="instead, one file of that length, at most 6")
    parser.add_argument("--seconds", type=float, default=60, help="how long they go on")
    return parser.parse_args()


def _library(settings: Settings, family: str, **job: Any) -> dict[str, Any]:
    """The figures of a library in a process of its own; `cold` is from that process's start to its first result."""
    console.print(f"{family} in-process")
    colds = []
    figures: dict[str, Any] = {}
    # The first of the two starts brings the files into the page cache, where the server will find them too.
    for cold_only in (True, False):
        started = time.time()
        done = subprocess.run(
            [environments.python(settings, family), HERE / f"library_{family}.py"],
            input=json.dumps({**job, "cold_only": cold_only}),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=1800,
        )
        if done.returncode:
            raise SystemExit(f"{family} failed in-process, see above; is its environment built?")
        figures = json.loads(done.stdout)
        colds.append(figures.pop("first_result_at") - started)
    return {**figures, "cold": colds[-1]}


def _about(audio: Path | None, recordings: Corpus) -> dict[str, Any]:
    """What was measured where, so that figures of two runs can be compared."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return {
        "command": shlex.join(["scripts/bench", *sys.argv[1:]]),
        "cpu": cpu[1] if cpu else "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "audio": "a folder of recordings" if audio else "tests/data/jfk.flac, repeated",
        "clip_seconds": [round(seconds(clip), 1) for clip in recordings.clips],
        "short_seconds": round(seconds(recordings.short), 1),
    }


def _words(text: str) -> list[str]:
    return re.sub(r"[^\w'\s]", " ", text.lower()).split()


main()
