"""`talkies files`: what is staged on the server, to be named by its path."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talkies.cli.client import DEFAULT_URL, Client, Refused
from talkies.cli.lists import Json, Timeout, Token, Url, ask, connect, show

app = typer.Typer(help="The files that are staged on the server.", no_args_is_help=True)

Staged = Annotated[str, typer.Argument(metavar="PATH", help="Its path on the server.")]


@app.command("ls")
def list_files(as_json: Json = False, url: Url = DEFAULT_URL, token: Token = "") -> None:
    """List them."""
    show(ask(connect(url, token), Client.files), as_json, {"path": "path", "bytes": "size", "modified": "modified"})


@app.command()
def put(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="Its path on the server; its name otherwise.")] = "",
    url: Url = DEFAULT_URL,
    token: Token = "",
    timeout: Timeout = 3600,
) -> None:
    """Stage a file, in place of one of the same path."""
    with file.open("rb") as content:
        ask(connect(url, token, timeout), lambda client: client.put_file(path or file.name, content), "Sending")


@app.command()
def get(
    path: Staged,
    output: Annotated[Path | None, typer.Option("--output", "-o", dir_okay=False, help="Its name otherwise.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
    timeout: Timeout = 3600,
) -> None:
    """Fetch one."""
    target = output or Path(Path(path).name)
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as sink:
            ask(connect(url, token, timeout), lambda client: client.get_file(path, sink), "Fetching")
        part.replace(target)
    except OSError as error:
        raise Refused(f"{target} cannot be written: {error.strerror}.") from None
    finally:
        part.unlink(missing_ok=True)


@app.command("rm")
def remove(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...")], url: Url = DEFAULT_URL, token: Token = ""
) -> None:
    """Remove them."""

    async def work(client: Client) -> None:
        for path in paths:
            await client.remove_file(path)

    ask(connect(url, token), work, "Removing")
