"""The `talkies` command: `serve` and what prepares it here, and the commands of `talkies.cli_client`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from typer.core import TyperGroup

from talkies import __version__, cli_client
from talkies.cli_bulk import bulk
from talkies.cli_transcribe import transcribe
from talkies.client import ClientError
from talkies.errors import StartupError, TalkiesError
from talkies.registry import Model, Registry
from talkies.settings import Settings

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


def _fail(message: str, code: int) -> None:
    typer.echo(f"talkies: {message}", err=True)
    raise typer.Exit(code) from None


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
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Self-hosted speech for any OpenAI client: transcription and speech on NVIDIA Triton."""


@app.command(rich_help_panel=_SERVER)
def serve(
    prepare: Annotated[
        bool, typer.Option(help="First build the environments and fetch the weights that are missing.")
    ] = True,
) -> None:
    """Start tritonserver and answer HTTP until SIGTERM or Ctrl-C. Every setting is a TALKIES_* variable."""
    from talkies import serve as serving

    settings, registry = _load()
    if prepare:
        slugs = default_slugs(settings, registry)
        if not settings.triton_url:  # else the engines run in an environment that is not ours
            _build(settings, serving.families(registry, slugs))
        _pull(settings, [registry.find(slug) for slug in slugs])
    serving.serve(settings, registry, lambda: _announce(settings, registry))


@app.command(rich_help_panel=_SERVER)
def pull(
    slugs: Annotated[list[str] | None, typer.Argument(metavar="SLUG", help="Default: what `serve` needs.")] = None,
) -> None:
    """Fetch the weights of models; what is there already is not fetched again."""
    settings, registry = _load()
    _pull(settings, [registry.find(slug) for slug in slugs or default_slugs(settings, registry)])


@environment.command("build")
def env_build(
    families: Annotated[list[str] | None, typer.Argument(metavar="FAMILY", help="Default: what `serve` needs.")] = None,
) -> None:
    """Build the environments that are missing or out of date."""
    from talkies import serve as serving
    from talkies.environments import TRITONSERVER
    from talkies.families import load as load_families
    from talkies.render import AUDIO_CHUNKS

    settings, registry = _load()
    engines = load_families(settings.engines_dir).values()
    known = [TRITONSERVER, AUDIO_CHUNKS, *dict.fromkeys(family.environment for family in engines)]
    if unknown := sorted(set(families or ()) - set(known)):
        raise typer.BadParameter(f"{', '.join(unknown)}: the families are {', '.join(known)}.")
    _build(settings, families or serving.families(registry, default_slugs(settings, registry)))


@app.command(rich_help_panel=_SERVER)
def render() -> None:
    """Write the model repository that tritonserver serves and print its folder; `serve` does this itself."""
    from talkies.render import render as render_repository

    settings, registry = _load()
    typer.echo(render_repository(settings, registry))


def default_slugs(settings: Settings, registry: Registry) -> list[str]:
    """What a server is prepared for: the enabled models if any are named, else the two defaults; and the preloaded."""
    chosen = settings.enabled_models or tuple(
        slug for slug in (settings.default_asr_model, settings.default_tts_model) if slug in registry
    )
    return list(dict.fromkeys([*chosen, *settings.preload]))


def _load() -> tuple[Settings, Registry]:
    settings = Settings.load()
    return settings, Registry.load(
        settings.models_file,
        settings.enabled_models,
        engines=settings.engines_dir,
        default_asr=settings.default_asr_model,
        default_tts=settings.default_tts_model,
    )


def _build(settings: Settings, families: Iterable[str]) -> None:
    from talkies import environments

    console = Console(stderr=True)
    with console.status("Checking the environments") as status:

        def announce(family: str) -> None:
            console.print(f"Building the environment {family} in {settings.envs / family}", soft_wrap=True)
            status.update(f"Building {family}: downloads, then installs")

        environments.build(settings, families, announce)


def _pull(settings: Settings, models: Iterable[Model]) -> None:
    from talkies import weights

    console = Console(stderr=True)
    for model in models:
        if weights.missing(settings, model):
            console.print(f"Fetching the weights of {model.slug}", soft_wrap=True)
        with _transfers(console) as progress:
            tasks: dict[str, TaskID] = {}

            def report(name: str, done: int, total: int, tasks: dict[str, TaskID] = tasks, to: Any = progress) -> None:
                task = tasks[name] if name in tasks else tasks.setdefault(name, to.add_task(name, total=None))
                to.update(task, completed=done, total=total or None)

            weights.pull(settings, model, report)


@contextmanager
def _transfers(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


def _announce(settings: Settings, registry: Registry) -> None:
    """Say how to call the server; on standard output, while the log goes to standard error."""
    from talkies import weights

    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    url = f"http://{host}:{settings.port}"
    grpc = settings.triton_url or f"{host}:{settings.grpc_port}"
    ready = [slug for slug, model in registry.items() if not weights.missing(settings, model)]
    lines = [
        "",
        f"talkies {__version__} answers at {url}; it has the weights of {', '.join(ready) or 'no model yet'}.",
        "",
        f"  curl     curl {url}/v1/audio/transcriptions -F model=whisper-1 -F file=@speech.flac",
        f"  python   openai.OpenAI(base_url='{url}/v1', api_key='unused').audio.speech.create(",
        "               model='tts-1', voice='af_heart', input='Hello.').write_to_file('hello.mp3')",
        f"  talkies  TALKIES_URL={url} talkies transcribe speech.flac",
        f"  gRPC     {grpc}",
    ]
    if not settings.triton_url:
        lines.append(f"  metrics  http://{host}:{settings.metrics_port}/metrics")
    print("\n".join(lines), end="\n\n", flush=True)


app.add_typer(environment, name="env", rich_help_panel=_SERVER)
app.command(rich_help_panel=_CLIENT)(transcribe)
app.command(rich_help_panel=_CLIENT)(bulk)
cli_client.register(app, panel=_CLIENT)
