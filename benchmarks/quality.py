"""What is heard, and how well: word errors, lost sentences, words that nobody said, subtitles that nobody can read."""

from __future__ import annotations

import csv
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table
from talkies.settings import Settings

from benchmarks.server import serving
from harness.joined import repeated, sets
from harness.server import ASR, Server
from harness.words import lost, transcripts, wer

LANGUAGES = ("de", "es", "fr", "pt")
PROMPTS = (
    "",
    "The assistant is called Jarvix. Glossary: Kubernetes, Istio, Prometheus.",
    "Hello, welcome to my lecture.",
)
TIMES = 5
"""How often noise is listened to."""
JOINED, REPEATED = 40, 12
LONG = Path("long") / "en_librispeech_joined.ogg"
_CUE = re.compile(r"(\d+):(\d+):(\d+),(\d+) --> (\d+):(\d+):(\d+),(\d+)\n((?:.+\n?)+)")
_LINE, _LINES, _SECONDS, _SHORTEST = 42, 2, 7.0, 0.8
"""What fits on a screen and can be read."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One set of recordings."""

    name: str
    files: int
    figures: str


def main(settings: Settings, folder: Path | None, names: Sequence[str]) -> None:
    """The sets that are asked for, all without names, one recording at a time on a server of its own, as a table."""
    if folder is None:
        raise SystemExit("The quality is measured on a folder with transcripts.tsv: name it with --audio.")
    measures = dict(_measures(folder))
    if unknown := set(names) - set(measures):
        raise SystemExit(f"{', '.join(sorted(unknown))}: there are only the sets {', '.join(measures)}.")
    table = Table("set", "files", "what was heard")
    with tempfile.TemporaryDirectory(prefix="talkies-quality-") as scratch:
        data = Path(scratch) / "data"
        data.mkdir()
        with serving(settings, data, PRELOAD=ASR) as server:
            for name in track(names or list(measures), "sets", console=Console(stderr=True)):
                heard = measures[name](server)
                table.add_row(heard.name, str(heard.files), heard.figures)
    Console().print(table)


def _measures(folder: Path) -> Iterator[tuple[str, Callable[[Server], Heard]]]:
    clips = transcripts(folder, "librispeech")
    yield "librispeech", lambda server: _words(server, "LibriSpeech, English", clips)
    for language in LANGUAGES:
        files = transcripts(folder, f"fleurs/fleurs-{language}")
        yield (
            language,
            lambda server, files=files, language=language: _words(  # type: ignore[misc]
                server, f"FLEURS, {language}", files, language
            ),
        )
    yield "long", lambda server: _long(server, folder / LONG)
    yield "joined", lambda server: _sentences(server, "two or three clips in one file", sets(clips, 12, JOINED))
    yield "repeated", lambda server: _sentences(server, "a clip again and again", repeated(clips, 12, REPEATED))
    yield "noise", lambda server: _noise(server, [path for path, _, text in transcripts(folder, "noise") if not text])


def _words(server: Server, name: str, files: Sequence[tuple[Path, str, str]], language: str = "en") -> Heard:
    heard = [_text(server, path, language=language) for path, _, _ in files]
    return Heard(name, len(files), f"word errors {wer([text for _, _, text in files], heard, language):.1%}")


def _long(server: Server, path: Path) -> Heard:
    with path.with_suffix(".segments.tsv").open(newline="") as file:
        spoken = [text for *_, text in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    text = _text(server, path)
    away = len(lost(spoken, text))
    cues = _cues(server.transcribe(path, response_format="srt").raise_for_status().text)
    figures = f"word errors {wer([' '.join(spoken)], [text]):.1%}, {away} of {len(spoken)} sentences lost; {cues}"
    return Heard("eight minutes", 1, figures)


def _cues(srt: str) -> str:
    found = []
    for *numbers, text in _CUE.findall(srt):
        start, end = (_seconds(numbers[i : i + 4]) for i in (0, 4))
        found.append((start, end, text.strip().split("\n")))
    nexts = [start for start, *_ in found[1:]] + [float("inf")]
    wide = sum(len(lines) > _LINES or max(map(len, lines)) > _LINE for *_, lines in found)
    long = sum(end - start > _SECONDS for start, end, _ in found)
    overlapping = sum(end > after for (_, end, _), after in zip(found, nexts, strict=True))
    brief = sum(
        end - start < _SHORTEST and after - end > 0.01 for (start, end, _), after in zip(found, nexts, strict=True)
    )
    return f"of {len(found)} cues {wide} too wide, {long} too long, {brief} too brief, {overlapping} overlap"


def _seconds(parts: Sequence[str]) -> float:
    hours, minutes, seconds, thousandths = map(int, parts)
    return 3600 * hours + 60 * minutes + seconds + thousandths / 1000


def _sentences(server: Server, name: str, made: Sequence[tuple[list[str], bytes]]) -> Heard:
    heard = [_text(server, data) for _, data in made]
    away = [sentence for (texts, _), text in zip(made, heard, strict=True) for sentence in lost(texts, text)]
    count = sum(len(texts) for texts, _ in made)
    rate = wer([" ".join(texts) for texts, _ in made], heard)
    return Heard(name, len(made), f"word errors {rate:.1%}, {len(away)} of {count} sentences lost")


def _noise(server: Server, files: Sequence[Path]) -> Heard:
    asked = [(path, prompt) for path in files for prompt in PROMPTS for _ in range(TIMES)]
    heard = [text for path, prompt in asked if (text := _text(server, path, prompt=prompt))]
    return Heard("noise, music and silence", len(files), f"{len(heard)} of {len(asked)} answers with words")


def _text(server: Server, recording: Path | bytes, **fields: str) -> str:
    return str(server.transcribe(recording, **fields).raise_for_status().json()["text"])
