"""`talkies transcribe`: files and URLs through a running server, several at a time."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from talkies.cli.client import DEFAULT_URL, Client, Refused, Transcription
from talkies.cli.inputs import FORMATS, TextFormat, form, group, is_url, stem, transcribe_source, with_newline
from talkies.cli.lists import STANDARD_STREAM, Timeout, Token, Url, connect
from talkies.cli.progress import Rows, length


def transcribe(
    files: Annotated[
        list[str],
        typer.Argument(help="Audio or video: files, or URLs that the server fetches; - is standard input."),
    ],
    model: Annotated[str, typer.Option(help="A slug; whisper-1 is the server's default.")] = "whisper-1",
    format: Annotated[TextFormat, typer.Option("--format", "-f", metavar="FORMAT", help=FORMATS)] = TextFormat.TEXT,
    language: Annotated[str, typer.Option(help="ISO 639-1 code of the speech; detected when not given.")] = "",
    prompt: Annotated[str, typer.Option(help="Text that sets vocabulary and style.")] = "",
    keyword: Annotated[
        list[str] | None, typer.Option(metavar="TERM", help="A name or term to expect; may be repeated.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0, max=1, metavar="T", help="Of sampling.")] = 0.0,
    translate: Annotated[bool, typer.Option("--translate", help="Into English.")] = False,
    diarize: Annotated[bool, typer.Option(help="Left and right channel are two speakers.")] = False,
    speaker: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="The left one's, then the right one's, for diarized_json.")
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", file_okay=False, help="One file each there, not standard output."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Files sent at the same time.")] = 4,
    url: Url = DEFAULT_URL,
    token: Token = "",
    timeout: Timeout = 3600,
) -> None:
    """Transcribe files. Exits with 1 when some of them failed, 2 when no server answers."""
    targets = _targets(files, format, output_dir)
    more = {"keywords[]": keyword or [], "known_speaker_names[]": speaker or []}
    warmth = f"{temperature:g}" if temperature else ""
    fields = form(model, format, language, diarize, prompt=prompt, temperature=warmth, **more)
    request = Transcription(fields, translate)
    if failures := asyncio.run(_transcribe_all(connect(url, token, timeout), targets, request, format, jobs)):
        if len(files) > 1:
            typer.echo(f"talkies: {failures} of {len(files)} files failed.", err=True)
        raise typer.Exit(1)


def _targets(files: Sequence[str], format: TextFormat, folder: Path | None) -> list[tuple[str, Path | None]]:
    """Each file with the file that its transcript goes to, None for standard output."""
    for file in files:
        if file == STANDARD_STREAM or is_url(file):
            continue
        if Path(file).is_dir() or not os.access(file, os.R_OK):
            raise typer.BadParameter(f"{file} is not a file that can be read.")
    if files.count(STANDARD_STREAM) > 1:
        raise typer.BadParameter("standard input can be read only once.")
    if folder is None:
        if len(files) > 1 and format not in (TextFormat.TEXT, TextFormat.JSON):
            raise typer.BadParameter(f"several files as {format.value} need --output-dir.")
        return [(file, None) for file in files]
    names = ["stdin" if file == STANDARD_STREAM else stem(file) for file in files]
    targets = [folder / f"{name}{format.suffix}" for name in names]
    if len(set(targets)) < len(targets):
        raise typer.BadParameter("two of the files have the same name; transcribe them into different folders.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{folder} cannot be made: {error.strerror}.") from None
    return list(zip(files, targets, strict=True))


async def _transcribe_all(
    client: Client, targets: Sequence[tuple[str, Path | None]], request: Transcription, format: TextFormat, jobs: int
) -> int:
    """Write all transcripts, those for standard output in the order of the files; the number of files that failed."""
    slots = asyncio.Semaphore(jobs)
    console = Console(stderr=True)
    failures = 0
    with Rows(console, len(targets), overall=len(targets) > 1) as rows:
        live = _Live(rows) if format is TextFormat.TEXT and _is_read_alone(targets) else None

        async def one(file: str) -> str:
            async with slots:
                return await _transcribe(client, file, request, rows, live)

        # Unreachable leaves the group, which ends the rest: none of them would fare better.
        async with client, group() as running:
            tasks = [running.create_task(_settled(one(file))) for file, _ in targets]
            for (file, target), task in zip(targets, tasks, strict=True):
                result = await task
                try:
                    if isinstance(result, Exception):
                        raise result
                    with rows.aside():
                        _put(file, target, live.rest(result) if live else result, format, several=len(targets) > 1)
                except BrokenPipeError:  # whoever reads has enough, of all files
                    raise
                except (Refused, OSError) as error:
                    failures += 1
                    if live:
                        live.break_off()
                    reason = error.strerror if isinstance(error, OSError) else error
                    console.print(f"{_name(file)}: {reason}", markup=False, highlight=False, soft_wrap=True)
    return failures


async def _settled(work: Coroutine[Any, Any, str]) -> str | Refused | OSError:
    try:
        return await work
    except (Refused, OSError) as error:
        return error


def _is_read_alone(targets: Sequence[tuple[str, Path | None]]) -> bool:
    """Whether somebody reads the transcript of a single file on a terminal."""
    return len(targets) == 1 and targets[0][1] is None and Console().is_terminal


class _Live:
    """The text on a terminal as it comes, in place of the rows."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._said = ""

    def say(self, delta: str) -> None:
        self._rows.close()
        self._said += delta
        typer.echo(delta, nl=False)

    def rest(self, transcript: str) -> str:
        """What of the whole text was not said yet."""
        self._rows.close()
        return transcript.removeprefix(self._said)

    def break_off(self) -> None:
        if self._said:
            typer.echo()


async def _transcribe(client: Client, source: str, request: Transcription, rows: Rows, live: _Live | None) -> str:
    watched = not request.translate and (rows.shown or live)
    total = await asyncio.to_thread(length, Path(source)) if watched and not is_url(source) else None
    with rows.row(_name(source).rpartition("/")[2], total) as tell:

        def watch(event: Mapping[str, Any]) -> None:
            if event["type"] == "transcript.progress":
                tell(event["seconds"])
            elif live and event["type"] == "transcript.text.delta":
                live.say(event["delta"])

        try:
            if source == STANDARD_STREAM:
                audio = ("stdin", await asyncio.to_thread(sys.stdin.buffer.read))
                transcript = await client.transcribe(request, audio, watch if watched else None)
            else:
                transcript = await transcribe_source(client, source, request, watch if watched else None)
        except (Refused, OSError):
            rows.advance()
            raise
    rows.advance()
    return transcript


def _put(source: str, target: Path | None, transcript: str, format: TextFormat, *, several: bool) -> None:
    if target:
        target.write_text(with_newline(transcript), encoding="utf-8")
    elif several and format is TextFormat.JSON:
        typer.echo(json.dumps({"file": source, **json.loads(transcript)}, ensure_ascii=False))
    elif several:
        typer.echo(f"==> {_name(source)} <==\n{transcript.rstrip()}\n")
    else:
        typer.echo(with_newline(transcript), nl=False)


def _name(source: str) -> str:
    return "standard input" if source == STANDARD_STREAM else source
