"""`talkies transcribe`: files through a running server, several at a time."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from talkies.cli_client import STANDARD_STREAM, Timeout, Token, Url, connect
from talkies.client import DEFAULT_URL, Client, Refused


class TextFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    VERBOSE_JSON = "verbose_json"
    SRT = "srt"
    VTT = "vtt"

    @property
    def suffix(self) -> str:
        return {self.TEXT: ".txt", self.VERBOSE_JSON: ".json"}.get(self, f".{self.value}")


def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Audio or video; - is standard input.")],
    model: Annotated[str, typer.Option(help="A slug; whisper-1 is the server's default.")] = "whisper-1",
    format: Annotated[TextFormat, typer.Option("--format", "-f")] = TextFormat.TEXT,
    language: Annotated[str, typer.Option(help="ISO 639-1 code of the speech; detected when not given.")] = "",
    prompt: Annotated[str, typer.Option(help="Text that sets vocabulary and style.")] = "",
    diarize: Annotated[bool, typer.Option(help="Left and right channel are two speakers.")] = False,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", file_okay=False, help="One file each there, not standard output."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Files sent at the same time.")] = 4,
    url: Url = DEFAULT_URL,
    token: Token = "",
    timeout: Timeout = 3600,
) -> None:
    """Transcribe files. Exits with 1 when some of them failed, 2 when no server answers."""
    targets = _targets(files, format, output_dir)
    fields = {
        "model": model,
        "response_format": format.value,
        "language": language,
        "prompt": prompt,
        "diarization": "true" if diarize else "",
    }
    fields = {name: value for name, value in fields.items() if value}
    if failures := asyncio.run(_transcribe_all(connect(url, token, timeout), targets, fields, format, jobs)):
        if len(files) > 1:
            typer.echo(f"talkies: {failures} of {len(files)} files failed.", err=True)
        raise typer.Exit(1)


def _targets(files: Sequence[Path], format: TextFormat, folder: Path | None) -> list[tuple[Path, Path | None]]:
    """Each file with the file that its transcript goes to, None for standard output."""
    # Typer's own `exists` refuses the dash in its Path arguments.
    for file in files:
        if file != STANDARD_STREAM and (file.is_dir() or not os.access(file, os.R_OK)):
            raise typer.BadParameter(f"{file} is not a file that can be read.")
    if files.count(STANDARD_STREAM) > 1:
        raise typer.BadParameter("standard input can be read only once.")
    if folder is None:
        if len(files) > 1 and format not in (TextFormat.TEXT, TextFormat.JSON):
            raise typer.BadParameter(f"several files as {format.value} need --output-dir.")
        return [(file, None) for file in files]
    targets = [folder / ("stdin" if file == STANDARD_STREAM else file.stem) for file in files]
    targets = [target.with_name(target.name + format.suffix) for target in targets]
    if len(set(targets)) < len(targets):
        raise typer.BadParameter("two of the files have the same name; transcribe them into different folders.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{folder} cannot be made: {error.strerror}.") from None
    return list(zip(files, targets, strict=True))


async def _transcribe_all(
    client: Client, targets: Sequence[tuple[Path, Path | None]], fields: dict[str, str], format: TextFormat, jobs: int
) -> int:
    """Write all transcripts, those for standard output in the order of the files; the number of files that failed."""
    slots = asyncio.Semaphore(jobs)
    console = Console(stderr=True)
    failures = 0
    async with client, _bar(console, len(targets)) as advance:

        async def one(file: Path) -> str:
            async with slots:
                try:
                    return await _transcribe(client, file, fields)
                finally:
                    advance()

        # Unreachable leaves the group, which ends the rest: none of them would fare better.
        async with _group() as group:
            tasks = [group.create_task(_settled(one(file))) for file, _ in targets]
            for (file, target), task in zip(targets, tasks, strict=True):
                result = await task
                try:
                    if isinstance(result, Exception):
                        raise result
                    _put(file, target, result, format, several=len(targets) > 1)
                except (Refused, OSError) as error:
                    failures += 1
                    reason = error.strerror if isinstance(error, OSError) else error
                    console.print(f"{_name(file)}: {reason}", markup=False, highlight=False, soft_wrap=True)
    return failures


@asynccontextmanager
async def _group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises what went wrong as it is, not wrapped."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _settled(work: Coroutine[Any, Any, str]) -> str | Refused | OSError:
    try:
        return await work
    except (Refused, OSError) as error:
        return error


async def _transcribe(client: Client, file: Path, fields: dict[str, str]) -> str:
    if file == STANDARD_STREAM:
        return await client.transcribe("stdin", await asyncio.to_thread(sys.stdin.buffer.read), fields)
    with file.open("rb") as audio:
        return await client.transcribe(file.name, _sized(audio), fields)


def _sized(audio: BinaryIO) -> BinaryIO | bytes:
    """A file as it is; the content of a pipe, which has no length beforehand, as an upload needs it."""
    return audio if stat.S_ISREG(os.fstat(audio.fileno()).st_mode) else audio.read()


def _put(file: Path, target: Path | None, transcript: str, format: TextFormat, *, several: bool) -> None:
    if target:
        target.write_text(transcript if transcript.endswith("\n") else transcript + "\n", encoding="utf-8")
    elif several and format is TextFormat.JSON:
        typer.echo(json.dumps({"file": str(file), **json.loads(transcript)}, ensure_ascii=False))
    elif several:
        typer.echo(f"==> {_name(file)} <==\n{transcript.rstrip()}\n")
    else:
        typer.echo(transcript, nl=not transcript.endswith("\n"))


def _name(file: Path) -> str:
    return "standard input" if file == STANDARD_STREAM else str(file)


@asynccontextmanager
async def _bar(console: Console, total: int) -> AsyncIterator[Callable[[], None]]:
    """A progress bar over `total` files, on a terminal only; yields the function that counts one."""
    columns = (SpinnerColumn(), TextColumn("Transcribing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
