"""`talkies token`: who may call the server, in the file TALKIES_AUTH_FILE."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from talkies import tokens
from talkies.errors import StartupError
from talkies.settings import Settings
from talkies.tokens import PERMISSIONS, Token

app = typer.Typer(help="Tokens with scopes and limits, in TALKIES_AUTH_FILE.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="In the log and in metrics: letters, digits, . _ -")]


@app.command()
def add(
    name: Name,
    scope: Annotated[list[str], typer.Option(help=f"One of {', '.join(PERMISSIONS)}; several times for several.")],
    rate: Annotated[int | None, typer.Option(metavar="N", help="Requests a minute.")] = None,
    audio_seconds: Annotated[float | None, typer.Option(metavar="N", help="Audio a day, heard and spoken.")] = None,
) -> None:
    """Make a token and print it; it is shown this once."""
    path, known = _file()
    if any(token.name == name for token in known):
        raise StartupError(f"There is a token {name!r} already; remove it first.")
    secret = f"tk-{secrets.token_urlsafe(32)}"
    try:
        token = Token.model_validate(
            {
                "name": name,
                "sha256": tokens.sha256(secret.encode()),
                "scopes": scope,
                "requests_per_minute": rate,
                "audio_seconds_per_day": audio_seconds,
            }
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise StartupError(f"{first['loc'][0]}: {first['msg']}.") from None
    tokens.save(path, [*known, token])
    typer.echo(secret)


@app.command("list")
def show() -> None:
    """Show the tokens' names and what each may do."""
    _, known = _file()
    table = Table("name", "scopes", "requests a minute", "seconds a day", box=None)
    for token in known:
        scopes = " ".join(scope for scope in PERMISSIONS if scope in token.scopes)
        limits = token.requests_per_minute, token.audio_seconds_per_day
        table.add_row(token.name, scopes, *("any" if limit is None else f"{limit:g}" for limit in limits))
    Console().print(table)


@app.command()
def remove(name: Name) -> None:
    """Take a token away; a running server refuses it from the next request on."""
    path, known = _file()
    if all(token.name != name for token in known):
        raise StartupError(f"There is no token {name!r}.")
    tokens.save(path, [token for token in known if token.name != name])


def _file() -> tuple[Path, list[Token]]:
    """The file and what it holds, nothing when it is yet to be made."""
    path = Settings.load().auth_file
    if path is None:
        raise StartupError("Set TALKIES_AUTH_FILE to the file that the server's tokens are kept in.")
    return path, tokens.load(path) if path.exists() else []
