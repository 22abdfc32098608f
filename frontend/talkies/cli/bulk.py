"""`talkies bulk`: a list of files and URLs through a running server, into a folder, resumable."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from talkies.cli import batch as work
from talkies.cli.client import DEFAULT_URL, Busy, Client, ClientError, Refused, Transcription
from talkies.cli.inputs import FORMATS, TextFormat, form
from talkies.cli.lists import Timeout, Token, Url, connect
from talkies.cli.progress import Rows

_NOTHING_DONE = 2
"""Exit code for wrong usage and for a server that cannot be reached or does not let us in."""


def bulk(
    inputs: Annotated[
        typer.FileText,
        typer.Argument(
            metavar="INPUTS",
            encoding="utf-8-sig",
            errors="surrogateescape",
            help="A list of audio or video files and http(s) URLs, one per line, # before comments; - is standard "
            "input.",
        ),
    ],
    model: Annotated[
        str, typer.Option(envvar="TALKIES_MODEL", help="A slug; whisper-1 is the server's default.")
    ] = "whisper-1",
    format: Annotated[
        TextFormat, typer.Option("--format", "-f", envvar="TALKIES_FORMAT", metavar="FORMAT", help=FORMATS)
    ] = TextFormat.TEXT,
    output_dir: Annotated[
        Path,
        typer.Option("--output-dir", "-o", envvar="TALKIES_OUTDIR", file_okay=False, help="Gets one transcript each."),
    ] = Path("transcripts"),
    language: Annotated[
        str, typer.Option(envvar="TALKIES_LANGUAGE", help="ISO 639-1 code of the speech; detected when not given.")
    ] = "",
    diarize: Annotated[
        bool, typer.Option(envvar="TALKIES_DIARIZE", help="Left and right channel are two speakers.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Make transcripts anew that are there already.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Inputs sent at the same time.")] = 4,
    url: Url = DEFAULT_URL,
    token: Token = "",
    timeout: Timeout = 3600,
) -> None:
    """Transcribe a list of files and URLs into a folder; run it again to go on where it ended.

    Exits with 0 when all have a transcript, 1 when some failed, 2 for wrong usage or when no server answers, 130 after
    Ctrl-C.
    """
    sources = work.read_list(inputs)
    if not sources:
        raise typer.BadParameter("the list names no file or URL.")
    planned = work.plan(sources, output_dir, format.suffix)
    todo = [job for job in planned if force or not job.output.exists()]
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{output_dir} cannot be made: {error.strerror}.") from None
    tally = _Tally(kept=len(planned) - len(todo))
    request = Transcription(form(model, format, language, diarize))
    try:
        if todo:
            asyncio.run(_run(connect(url, token, timeout), todo, request, jobs, tally))
    except ClientError as error:
        typer.echo(f"talkies: {error}", err=True)
        raise typer.Exit(_NOTHING_DONE) from None
    finally:
        typer.echo(f"talkies: {tally.summary(len(planned))}", err=True)
    raise typer.Exit(1 if tally.failed else 0)


class _Tally:
    """Counts what became of the inputs."""

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.done = self.failed = 0

    def summary(self, total: int) -> str:
        rest = total - self.kept - self.done - self.failed
        parts = [f"{self.done} transcribed"]
        parts += [f"{self.kept} kept from before (--force makes them anew)"] if self.kept else []
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{rest} not done"] if rest else []
        return ", ".join(parts) + "."


async def _run(client: Client, todo: Sequence[work.Job], request: Transcription, at_once: int, tally: _Tally) -> None:
    """Work through the jobs. Raises ClientError before any of them when the server does not let us in."""
    console = Console(stderr=True)
    with Rows(console, len(todo), overall=True) as rows:

        def report(job: work.Job, error: Refused | None) -> None:
            rows.advance()
            if error:
                tally.failed += 1
            else:
                tally.done += 1
            if error or not console.is_terminal:
                line = f"{job.source}: {error}" if error else f"{job.source} -> {job.output}"
                console.print(
                    f"[{tally.done + tally.failed}/{len(todo)}] {line}", markup=False, highlight=False, soft_wrap=True
                )

        async with client:
            with contextlib.suppress(Busy):  # which the jobs bear with
                await client.ps()
            await work.run(client, todo, request, at_once=at_once, report=report)
