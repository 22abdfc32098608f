"""The commands that talk to a running server over HTTP, all but `transcribe` and `bulk`; and what they share with it.

Results go to standard output, all else to standard error.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from talkies.cli.client import DEFAULT_URL, Client, Refused

T = TypeVar("T")

STANDARD_STREAM = "-"
"""Standard input where a file is read, standard output where one is written."""


class AudioFormat(StrEnum):
    MP3 = "mp3"
    OPUS = "opus"
    AAC = "aac"
    FLAC = "flac"
    WAV = "wav"
    PCM = "pcm"


_FEW = 4
_SUFFIXES = {f".{format.value}": format for format in AudioFormat} | {".ogg": AudioFormat.OPUS, ".raw": AudioFormat.PCM}

Url = Annotated[str, typer.Option(envvar="TALKIES_URL", help="Where the server answers.")]
Token = Annotated[
    str,
    typer.Option(
        "--token", envvar="TALKIES_AUTH_TOKEN", show_envvar=True, help="Sent as bearer token, if the server wants one."
    ),
]
Timeout = Annotated[float, typer.Option(min=1, metavar="SECONDS", help="What one request may take.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def register(app: typer.Typer, panel: str) -> None:
    """Add the commands to `app`, under the heading `panel` of its help."""
    for command in (speak, models, voices, ps, unload):
        app.command(rich_help_panel=panel)(command)


def speak(
    text: Annotated[str, typer.Argument(help="What to say; - reads standard input.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", dir_okay=False, allow_dash=True, help="The audio file; - is standard output."),
    ],
    voice: Annotated[str, typer.Option(help="A name that `talkies voices` lists; the model's default otherwise.")] = "",
    speed: Annotated[float, typer.Option(min=0.25, max=4.0)] = 1.0,
    model: Annotated[str, typer.Option(help="A slug; tts-1 is the server's default.")] = "tts-1",
    format: Annotated[
        AudioFormat | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help=f"{', '.join(AudioFormat)}; by default the output's suffix, mp3 for standard output.",
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
    timeout: Timeout = 3600,
) -> None:
    """Speak a text into an audio file."""
    to_stdout = str(output) == STANDARD_STREAM
    if to_stdout and sys.stdout.isatty():
        raise typer.BadParameter("audio does not go to a terminal; redirect standard output or name a file.")
    format = format or (AudioFormat.MP3 if to_stdout else _SUFFIXES.get(output.suffix.lower()))
    if format is None:
        raise typer.BadParameter(f"{output}: no audio format has this suffix; use {', '.join(_SUFFIXES)} or --format.")
    if text == STANDARD_STREAM:
        text = sys.stdin.read()
    body: dict[str, Any] = {"model": model, "input": text, "response_format": format.value, "speed": speed}
    if voice:
        body["voice"] = voice
    if to_stdout:
        ask(connect(url, token, timeout), lambda client: client.stream_speech(body, sys.stdout.buffer), "Speaking")
        return
    audio = ask(connect(url, token, timeout), lambda client: client.speak(body), "Speaking")
    try:
        output.write_bytes(audio)
    except OSError as error:
        raise Refused(f"{output} cannot be written: {error.strerror}.") from None
    typer.echo(f"{output}: {len(audio):,} bytes of {format.value}", err=True)


def models(as_json: Json = False, url: Url = DEFAULT_URL, token: Token = "") -> None:
    """List the models that the server offers: which are in memory, ready to be loaded, or not installed."""

    async def work(client: Client) -> list[dict[str, Any]]:
        loaded = {entry["model"] for entry in await client.ps()}
        return [
            {
                **entry,
                "spoken": _few(entry["languages"]),
                "state": "loaded" if entry["id"] in loaded else "ready" if entry["available"] else "not installed",
            }
            for entry in await client.models()
        ]

    found = ask(connect(url, token), work)
    columns = {"model": "id", "modality": "modality", "state": "state", "languages": "spoken", "from": "owned_by"}
    show(found, as_json, columns)


def _few(languages: Sequence[str]) -> str:
    """Up to four languages by their codes, more by their number."""
    return ", ".join(languages) if len(languages) <= _FEW else str(len(languages))


def voices(
    model: Annotated[str, typer.Option(help="Only this model's voices.")] = "",
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """List the voices that the server can speak with."""
    from talkies import languages  # which brings Babel

    async def work(client: Client) -> list[dict[str, Any]]:
        slug = (await client.model(model))["id"] if model else ""
        return [voice for voice in await client.voices() if slug in ("", voice["model"])]

    found = ask(connect(url, token), work)
    if not as_json:
        found = [{**voice, "spoken": languages.title(voice.get("language") or "")} for voice in found]
    columns = {"voice": "voice", "language": "spoken", "gender": "gender", "model": "model", "default": "default"}
    show(found, as_json, columns)


def ps(as_json: Json = False, url: Url = DEFAULT_URL, token: Token = "") -> None:
    """List the models in memory, how long they have been idle and how many requests they work on."""
    found = ask(connect(url, token), Client.ps)
    show(
        found,
        as_json,
        {"model": "model", "modality": "modality", "idle (s)": "idle_seconds", "requests": "active_requests"},
    )


def unload(
    slugs: Annotated[list[str] | None, typer.Argument(metavar="SLUG", help="Default: all loaded models.")] = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    timeout: Timeout = 3600,
) -> None:
    """Take models out of memory once their running requests are done."""

    async def work(client: Client) -> list[str]:
        return [gone for slug in slugs or [""] for gone in await client.unload(slug)]

    gone = ask(connect(url, token, timeout), work, "Unloading")
    show([{"unloaded": slug} for slug in gone], as_json, {"unloaded": "unloaded"})


def connect(url: str, token: str, timeout: float = 3600) -> Client:
    """A client for one command."""
    # The server takes several tokens in the same variable; any of them opens it.
    return Client(url, token.partition(",")[0].strip(), timeout=timeout)


def ask(client: Client, call: Callable[[Client], Awaitable[T]], label: str = "Asking") -> T:
    """The result of one call, with a spinner on a terminal while it runs."""

    async def work() -> T:
        async with client:
            return await call(client)

    with Console(stderr=True).status(label):
        return asyncio.run(work())


def show(rows: Sequence[dict[str, Any]], as_json: bool, columns: dict[str, str]) -> None:
    """Print rows as JSON or as a table."""
    if as_json:
        typer.echo(json.dumps(list(rows), ensure_ascii=False, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    numbers = {key for key in columns.values() if rows and isinstance(rows[0].get(key), int | float)} - {"default"}
    for title, key in columns.items():
        table.add_column(title, justify="right" if key in numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in columns.values()))
    console = Console()
    # A pipe has no width of its own, and a cut slug is no slug.
    console.print(table, width=None if console.is_terminal else 200, markup=False)


def _cell(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else ""
        case float():
            return f"{value:.0f}"
        case _:
            return "" if value is None else str(value)
