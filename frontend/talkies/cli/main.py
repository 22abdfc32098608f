"""The `talkies` command: `serve` and what prepares it here, and the commands of `talkies.cli_client`."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from typer.core import TyperGroup
from typer.main import get_command

from talkies import __version__, refusals
from talkies.cli import files, lists, token
from talkies.cli.bulk import bulk
from talkies.cli.client import ClientError
from talkies.cli.transcribe import transcribe
from talkies.errors import StartupError, TalkiesError
from talkies.families import Modality
from talkies.registry import Model, Registry
from talkies.settings import Settings, address

# The modules behind `serve`, `pull`, `env` and `render` are imported by those commands alone: they bring the web
# server, gRPC and the hub's client, which would make `talkies ps` several times slower.


class _Commands(TyperGroup):
    """Ends an expected failure with its one sentence and its exit code instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (StartupError, TalkiesError) as error:
            _fail(str(error), 1)
        except ClientError as error:
            _fail(str(error), error.exit_code)
        except BrokenPipeError:
            raise
        except OSError as error:
            _fail(str(refusals.sentence(error)), 1)


def _fail(message: str, code: int) -> None:
    typer.echo(f"talkies: {message}", err=True)
    raise typer.Exit(code) from None


_SERVICE_LINK = re.compile(r"TALKIES_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SAMPLE = "tests/data/jfk.flac"
_SERVER = "On the server"
_CLIENT = "Over HTTP, to a running server"

app = typer.Typer(
    cls=_Commands,
    help="Self-hosted speech for any OpenAI client: transcription and speech on NVIDIA Triton.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
environment = typer.Typer(help="The environments that the engines run in.", no_args_is_help=True)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"talkies {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Self-hosted speech for any OpenAI client: transcription and speech on NVIDIA Triton."""


@app.command(rich_help_panel=_SERVER)
def serve(
    prepare: Annotated[
        bool, typer.Option(help="First build the environments and fetch the weights that are missing.")
    ] = True,
    host: Annotated[str | None, typer.Option(help="In place of TALKIES_HOST.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="In place of TALKIES_PORT.")] = None,
) -> None:
    """Start tritonserver and answer HTTP until SIGTERM or Ctrl-C. Every other setting is a TALKIES_* variable."""
    from talkies import serve as serving

    given = {"host": host, "port": port}
    settings, registry = _load(**{name: value for name, value in given.items() if value is not None})
    serving.check_ports(settings)  # before what takes minutes
    if prepare:
        slugs = default_slugs(settings, registry)
        if not settings.triton_url:  # else the engines run in an environment that is not ours
            _build(settings, serving.families(settings, registry, slugs))
        _pull(settings, [registry.find(slug) for slug in slugs])
    serving.serve(settings, registry, lambda: _announce(settings, registry))


@app.command(rich_help_panel=_SERVER)
def pull(
    slugs: Annotated[list[str] | None, typer.Argument(metavar="SLUG", help="Default: what `serve` needs.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read them all, and fetch anew what is damaged.")] = False,
) -> None:
    """Fetch the weights of models; what is there already is not fetched again."""
    settings, registry = _load()
    _pull(settings, [registry.find(slug) for slug in slugs or default_slugs(settings, registry)], verify=verify)


@environment.command("build")
def env_build(
    families: Annotated[list[str] | None, typer.Argument(metavar="FAMILY", help="Default: what `serve` needs.")] = None,
) -> None:
    """Build the environments that are missing or out of date."""
    from talkies_kit.wire import AUDIO_CHUNKS

    from talkies import serve as serving
    from talkies.families import load as load_families
    from talkies.setup.environments import TRITONSERVER

    settings, registry = _load()
    engines = load_families(settings.engines_dir).values()
    known = [TRITONSERVER, AUDIO_CHUNKS, *dict.fromkeys(family.environment for family in engines)]
    if unknown := sorted(set(families or ()) - set(known)):
        raise typer.BadParameter(f"{', '.join(unknown)}: the families are {', '.join(known)}.")
    _build(settings, families or serving.families(settings, registry, default_slugs(settings, registry)))


@app.command(rich_help_panel=_SERVER)
def doctor() -> None:
    """Check that all is there and whole that `serve` needs: a line for each thing, exit status 1 for a fault."""
    from talkies import serve as serving
    from talkies.cli.doctor import findings

    settings, registry = _load()
    slugs = default_slugs(settings, registry)
    families = [] if settings.triton_url else serving.families(settings, registry, slugs)
    well = True
    for what, wrong in findings(settings, registry, slugs, families):
        well &= not wrong
        typer.echo(f"{'wrong' if wrong else 'ok':5}  {what}{f': {wrong}' if wrong else ''}")
    if not well:
        raise typer.Exit(1)


@app.command(rich_help_panel=_SERVER)
def render() -> None:
    """Write the model repository that tritonserver serves and print its folder; `serve` does this itself."""
    from talkies.engines.repository import render as render_repository

    settings, registry = _load()
    typer.echo(render_repository(settings, registry))


@app.command(rich_help_panel=_SERVER)
def triton(
    rendered: Annotated[
        bool, typer.Option("--rendered", help="Serve what `talkies render` has written, and write nothing.")
    ] = False,
) -> None:
    """Become a tritonserver for a `talkies serve` elsewhere, which has the same data directory, voices and keys."""
    from talkies.engines import command
    from talkies.engines.repository import render as render_repository

    settings, registry = _load()
    if not rendered:
        render_repository(settings, registry)
    command.run(settings)


def default_slugs(settings: Settings, registry: Registry) -> list[str]:
    """What a server is prepared for: the enabled models if any are named, else the two defaults; and the preloaded."""
    chosen = settings.enabled_models or [model.slug for model in registry.defaults.values()]
    return list(dict.fromkeys([*chosen, *settings.preload]))


def _load(**given: Any) -> tuple[Settings, Registry]:
    settings = Settings.load(**given)
    _warn_of_unknown_variables()
    return settings, Registry.load(
        settings.models_file,
        settings.enabled_models,
        engines=settings.engines_dir,
        default_asr=settings.default_asr_model,
        default_tts=settings.default_tts_model,
    )


def _warn_of_unknown_variables() -> None:
    """Say which `TALKIES_*` variables nothing reads: a typing error would otherwise pass in silence.

    Kubernetes makes variables of the names of services; those are no error.
    """
    known = {f"TALKIES_{name.upper()}" for name in Settings.model_fields} | set(_variables(get_command(app)))
    for name in sorted(name for name in os.environ if name.startswith("TALKIES_") and name not in known):
        if _SERVICE_LINK.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; {near[0]} is one" if near else ""
        typer.echo(f"talkies: {name} is not a variable that anything here reads{hint}.", err=True)


def _variables(command: Any) -> Iterator[str]:
    """The environment variables that the options of a command and of its commands can come from."""
    for option in command.params:
        yield from [option.envvar] if isinstance(option.envvar, str) else option.envvar or ()
    for inner in getattr(command, "commands", {}).values():
        yield from _variables(inner)


def _build(settings: Settings, families: Iterable[str]) -> None:
    from talkies.setup import environments

    console = Console(stderr=True)
    with console.status("Checking the environments") as status:

        def announce(family: str) -> None:
            place = environments.folder(settings, family)
            console.print(f"Building the environment {family} in {place}", soft_wrap=True)
            status.update(f"Building {family}: downloads, then installs")

        environments.build(settings, families, announce)


def _pull(settings: Settings, models: Iterable[Model], *, verify: bool = False) -> None:
    from talkies.setup import weights

    console = Console(stderr=True)
    for model in models:
        if weights.missing(settings, model):
            console.print(f"Fetching the weights of {model.slug}", soft_wrap=True)
        with _transfers(console) as progress:
            weights.pull(settings, model, _Report(progress), verify=verify)


class _Report:
    """Shows how far each file of a download is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, name: str, done: int, total: int) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=None)
        self._progress.update(self._tasks[name], completed=done, total=total or None)


@contextmanager
def _transfers(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


def _announce(settings: Settings, registry: Registry) -> None:
    """Say how to call the server; on standard output, while the log goes to standard error."""
    from talkies.setup import weights

    url = f"http://{address(settings.host, settings.port)}"
    talkies = Path(sys.argv[0])
    if talkies.is_relative_to(Path.cwd()):
        talkies = talkies.relative_to(Path.cwd())
    closed = bool(settings.auth_token or settings.auth_file)
    header, key = (" -H 'Authorization: Bearer TOKEN'", "TOKEN") if closed else ("", "unused")
    setting = " TALKIES_AUTH_TOKEN=TOKEN" if closed else ""
    grpc = settings.triton_url or address(settings.grpc_host, settings.grpc_port)
    ready = [slug for slug, model in registry.items() if not weights.missing(settings, model)]
    speaker = registry.defaults.get(Modality.TTS)
    voice = speaker.default_voice if speaker else "alloy"
    lines = [
        "",
        f"talkies {__version__} answers at {url}; it has the weights of {', '.join(ready) or 'no model yet'}.",
        "",
        f"  curl     curl {url}/v1/audio/transcriptions{header} -F model=whisper-1 -F file=@{_SAMPLE}",
        f"  python   openai.OpenAI(base_url='{url}/v1', api_key='{key}').audio.speech.create(",
        f"               model='tts-1', voice='{voice}', input='Hello.').write_to_file('hello.mp3')",
        f"  talkies  TALKIES_URL={url}{setting} {talkies} transcribe {_SAMPLE}",
        f"  gRPC     {grpc}",
    ]
    if not settings.triton_url:
        lines.append(f"  metrics  http://{address(settings.metrics_address, settings.metrics_port)}/metrics")
    print("\n".join(lines), end="\n\n", flush=True)


app.add_typer(environment, name="env", rich_help_panel=_SERVER)
app.add_typer(token.app, name="token", rich_help_panel=_SERVER)
app.command(rich_help_panel=_CLIENT)(transcribe)
app.command(rich_help_panel=_CLIENT)(bulk)
app.add_typer(files.app, name="files", rich_help_panel=_CLIENT)
lists.register(app, panel=_CLIENT)
