"""The commands against the real application over fake services, or against a transport that misbehaves."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import httpx
import pytest
import structlog
from talkies import __version__, serve
from talkies.cli import lists
from talkies.cli.main import default_slugs
from talkies.errors import BadRequest, StartupError
from talkies.registry import Registry
from talkies.settings import PROJECT, Settings
from talkies.setup import environments, weights

from harness.cli import run, use
from harness.facade import SPOKEN, Facade, facade


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Facade]:
    async def make() -> Facade:
        async with facade(tmp_path / "served") as made:
            return made

    made = asyncio.run(make())
    use(monkeypatch, httpx.ASGITransport(made.app, raise_app_exceptions=False))
    with structlog.testing.capture_logs():  # the server's log is not the command's output
        yield made


Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    return lambda answer: use(monkeypatch, httpx.MockTransport(answer))


@pytest.fixture
def audio(tmp_path: Path) -> list[Path]:
    files = [tmp_path / name for name in ("one.wav", "two.flac", "three.ogg")]
    for file in files:
        file.write_bytes(file.name.encode())
    return files


# --- the command itself ----------------------------------------------------------------------------------------------
def test_the_entry_point_and_python_m_are_the_same_app() -> None:
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]["talkies"]
    assert declared == "talkies.__main__:main"
    assert any(point.value == declared for point in entry_points(group="console_scripts", name="talkies"))


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(option: str) -> None:
    result = run(option)
    assert (result.exit_code, result.stdout) == (0, f"talkies {__version__}\n")


def test_the_version_is_told_without_what_the_commands_import() -> None:
    code = (
        "import sys; sys.argv = ['talkies', '-V']; from talkies.__main__ import main; main(); "
        "assert not {'typer', 'pydantic', 'httpx', 'rich', 'structlog'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"talkies {__version__}\n"


@pytest.mark.parametrize(
    "args", [["nonsense"], ["ps", "--nonsense"], ["transcribe"], ["transcribe", "absent.wav"], ["env", "build", "nope"]]
)
def test_a_usage_error_exits_with_2(args: list[str]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


# --- transcribe ------------------------------------------------------------------------------------------------------
def test_transcribe_prints_the_text(served: Facade, audio: list[Path]) -> None:
    result = run("transcribe", audio[0])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Ask not\n", "")
    assert served.transcriber.calls[0]["audio"] == b"one.wav"
    assert served.transcriber.calls[0]["model"] == "whisper-base"


def test_transcribe_passes_its_options_on(served: Facade, audio: list[Path]) -> None:
    result = run(
        *("transcribe", audio[0], "--format", "verbose_json", "--language", "de", "--prompt", "Names: Ada"),
        *("--model", "whisper-large-v3", "--diarize"),
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["language"] == "de"
    call = served.transcriber.calls[0]
    assert (call["model"], call["diarize"]) == ("whisper-large-v3", True)
    assert (call["options"].language, call["options"].prompt) == ("de", "Names: Ada")


def test_transcribe_translates(served: Facade, audio: list[Path]) -> None:
    assert run("transcribe", audio[0], "--translate").exit_code == 0
    assert served.transcriber.calls[0]["options"].task == "translate"


def test_transcribe_takes_names(served: Facade, audio: list[Path]) -> None:
    names = [
        "--speaker",
        "Ada",
        "--speaker",
        "Bob",
        "--keyword",
        "Triton",
        "--keyword",
        "Kokoro",
        "--temperature",
        "0.4",
    ]
    result = run("transcribe", audio[0], "-f", "diarized_json", *names)
    assert json.loads(result.stdout)["segments"][0]["speaker"] == "Ada"
    options = served.transcriber.calls[0]["options"]
    assert (options.prompt, options.temperature) == ("Triton, Kokoro", 0.4)


def test_transcribe_reads_standard_input(served: Facade) -> None:
    result = run("transcribe", "-", input=b"piped")
    assert (result.exit_code, result.stdout) == (0, "Ask not\n")
    assert served.transcriber.calls[0]["audio"] == b"piped"


def test_transcribe_reads_a_pipe(served: Facade, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(b"piped",))
    writer.start()
    assert run("transcribe", fifo).exit_code == 0
    writer.join()
    assert served.transcriber.calls[0]["audio"] == b"piped"


def test_transcribe_lets_the_server_fetch_urls(answering: Callable[[Answer], None], audio: list[Path]) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.content)
        return httpx.Response(200, text="words")

    answering(answer)
    result = run("transcribe", "https://box/talks/Ep%2042.mp3?x=1", audio[0], "-o", audio[0].parent / "out")
    assert result.exit_code == 0, result.stderr
    assert b"file_path=https%3A%2F%2Fbox%2Ftalks%2FEp%252042.mp3%3Fx%3D1" in seen[0]
    assert {path.name for path in (audio[0].parent / "out").iterdir()} == {"Ep 42.txt", "one.txt"}


def test_several_files_come_out_under_their_names_in_order(served: Facade, audio: list[Path]) -> None:
    result = run("transcribe", *audio)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "".join(f"==> {file} <==\nAsk not\n\n" for file in audio)


def test_several_files_as_json_are_one_object_per_line(served: Facade, audio: list[Path]) -> None:
    result = run("transcribe", *audio, "-f", "json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    usage = {"type": "duration", "seconds": 2.5}
    assert lines == [{"file": str(file), "text": "Ask not", "usage": usage} for file in audio]


@pytest.mark.parametrize(
    ("format", "suffix", "start"),
    [
        ("text", ".txt", "Ask"),
        ("json", ".json", "{"),
        ("verbose_json", ".json", "{"),
        ("srt", ".srt", "1\n"),
        ("vtt", ".vtt", "WEBVTT"),
    ],
)
def test_an_output_folder_gets_one_file_each(
    served: Facade, audio: list[Path], tmp_path: Path, format: str, suffix: str, start: str
) -> None:
    folder = tmp_path / "new" / "folder"
    result = run("transcribe", *audio, "-f", format, "-o", folder)
    assert (result.exit_code, result.stdout) == (0, "")
    assert {path.name for path in folder.iterdir()} == {f"{file.stem}{suffix}" for file in audio}
    text = (folder / f"one{suffix}").read_text()
    assert text.startswith(start) and text.endswith("\n")


def test_files_that_would_overwrite_each_other_are_refused(served: Facade, audio: list[Path], tmp_path: Path) -> None:
    twin = tmp_path / "one.mp3"
    twin.write_bytes(b"")
    assert run("transcribe", audio[0], twin, "-o", tmp_path / "out").exit_code == 2
    assert run("transcribe", *audio, "-f", "srt").exit_code == 2
    assert run("transcribe", "-", "-").exit_code == 2
    assert served.transcriber.calls == []


def test_one_failed_file_leaves_the_others(answering: Callable[[Answer], None], audio: list[Path]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if b"two.flac" in request.content:
            return httpx.Response(400, json={"detail": "x", "error": {"message": "It holds no audio."}})
        return httpx.Response(200, text="words")

    answering(answer)
    result = run("transcribe", *audio)
    assert result.exit_code == 1
    assert result.stdout.count("words") == 2
    assert f"{audio[1]}: It holds no audio.\n" in result.stderr
    assert "1 of 3 files failed" in result.stderr


def test_a_folder_that_cannot_be_made_is_a_usage_error(served: Facade, audio: list[Path]) -> None:
    assert run("transcribe", audio[0], "-o", audio[1] / "below").exit_code == 2


def test_no_server_exits_with_2(answering: Callable[[Answer], None], audio: list[Path]) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    answering(refuse)
    result = run("transcribe", *audio)
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        result.stderr
        == "talkies: Nothing answers at http://127.0.0.1:8000; start `talkies serve` or set TALKIES_URL.\n"
    )


def test_no_more_files_at_a_time_than_jobs(monkeypatch: pytest.MonkeyPatch, audio: list[Path]) -> None:
    running, most = 0, 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return httpx.Response(200, text="words")

    use(monkeypatch, httpx.MockTransport(answer))
    assert run("transcribe", *audio, "-j", "2").exit_code == 0
    assert most == 2


# --- speak -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "magic"), [("a.wav", b"RIFF"), ("a.flac", b"fLaC"), ("a.ogg", b"OggS"), ("a.pcm", SPOKEN[:4])]
)
def test_speak_takes_the_format_from_the_suffix(served: Facade, tmp_path: Path, name: str, magic: bytes) -> None:
    result = run("speak", "Hello.", "-o", tmp_path / name, "--voice", "af_heart", "--speed", "1.5")
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert (tmp_path / name).read_bytes().startswith(magic)
    call = served.synthesizer.calls[0]
    assert (call["text"], call["voice"], call["speed"], call["model"]) == ("Hello.", "af_heart", 1.5, "kokoro-82m")


def test_speak_reads_and_writes_the_standard_streams(served: Facade) -> None:
    result = run("speak", "-", "-o", "-", "--format", "pcm", input="Héllo.")
    assert (result.exit_code, result.stdout_bytes) == (0, SPOKEN)
    assert served.synthesizer.calls[0]["text"] == "Héllo."


def test_speak_refuses_what_it_cannot_write(served: Facade, tmp_path: Path) -> None:
    assert run("speak", "Hello.", "-o", tmp_path / "a.txt").exit_code == 2
    assert run("speak", "Hello.", "-o", tmp_path).exit_code == 2
    assert run("speak", "Hello.", "-o", tmp_path / "a.wav", "--speed", "9").exit_code == 2
    assert served.synthesizer.calls == []
    result = run("speak", "Hello.", "-o", tmp_path / "absent" / "a.wav")
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


def test_the_servers_own_sentence_is_shown(served: Facade, tmp_path: Path) -> None:
    result = run("speak", "Hello.", "-o", tmp_path / "a.wav", "--voice", "nobody")
    assert result.exit_code == 1
    assert result.stderr.startswith("talkies: kokoro-82m has no voice 'nobody'; its voices are")
    assert not (tmp_path / "a.wav").exists()


def test_speech_for_a_pipe_is_streamed(answering: Callable[[Answer], None]) -> None:
    bodies = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, content=b"onetwo")

    answering(answer)
    result = run("speak", "Hello.", "-o", "-")
    assert (result.exit_code, result.stdout_bytes) == (0, b"onetwo")
    assert bodies[0]["stream_format"] == "audio"
    answering(lambda _: httpx.Response(503, json={"error": {"message": "Not now."}}))
    result = run("speak", "Hello.", "-o", "-")
    assert (result.exit_code, result.stdout_bytes, result.stderr) == (1, b"", "talkies: Not now.\n")


# --- files -----------------------------------------------------------------------------------------------------------
def test_files(served: Facade, audio: list[Path], tmp_path: Path) -> None:
    assert [entry["path"] for entry in json.loads(run("files", "ls", "--json").stdout)] == ["talks/one.flac"]
    assert run("files", "put", audio[0], "talks/a b.wav").exit_code == 0
    assert run("files", "put", audio[1]).exit_code == 0
    assert re.search(r"^talks/a b.wav +7 ", run("files", "ls").stdout, re.M)
    assert run("files", "get", "talks/a b.wav", "-o", tmp_path / "back.wav").exit_code == 0
    assert (tmp_path / "back.wav").read_bytes() == b"one.wav"
    assert run("files", "rm", "two.flac", "talks/a b.wav").exit_code == 0
    assert len(json.loads(run("files", "ls", "--json").stdout)) == 1
    for command in (["get", "nothing.wav", "-o", tmp_path / "no.wav"], ["rm", "nothing.wav"]):
        result = run("files", *command)
        assert result.exit_code == 1
        assert "nothing.wav" in result.stderr
    assert not list(tmp_path.glob("no.wav*"))


# --- lists -----------------------------------------------------------------------------------------------------------
def test_models_voices_and_ps_are_tables(served: Facade) -> None:
    assert re.search(r"^whisper-base +asr +loaded +99 ", run("models").stdout, re.M)
    assert re.search(r"^whisper-large-v3 +asr +not installed", run("models").stdout, re.M)
    assert re.search(r"^af_heart +American English +female +kokoro-82m +yes *$", run("voices").stdout, re.M)
    assert re.search(r"^whisper-base +asr +2 +0 *$", run("ps").stdout, re.M)


def test_lists_are_plain_when_they_do_not_go_to_a_terminal(served: Facade) -> None:
    result = run("models")
    assert "\x1b" not in result.stdout and "…" not in result.stdout
    assert result.stderr == ""


def test_lists_as_json(served: Facade) -> None:
    assert {model["id"] for model in json.loads(run("models", "--json").stdout)} == set(served.registry)
    assert json.loads(run("ps", "--json").stdout)[0]["model"] == "whisper-base"
    voices = json.loads(run("voices", "--json", "--model", "tts-1").stdout)
    assert {voice["model"] for voice in voices} == {"kokoro-82m"}
    unknown = run("voices", "--model", "kokoro")
    assert unknown.exit_code == 1
    assert unknown.stderr.startswith("talkies: There is no model 'kokoro'; the models are")


def test_unload_one_or_all(served: Facade) -> None:
    assert json.loads(run("unload", "whisper-base", "--json").stdout) == [{"unloaded": "whisper-base"}]
    result = run("unload", "whisper-base")
    assert result.exit_code == 1
    assert result.stderr == "talkies: whisper-base is not loaded.\n"
    served.residency.loaded = ["whisper-base", "kokoro-82m"]
    assert "kokoro-82m" in run("unload").stdout
    assert served.residency.loaded == []


# --- the connection --------------------------------------------------------------------------------------------------
def test_address_and_token_come_from_the_environment(answering: Callable[[Answer], None]) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((str(request.url), request.headers["Authorization"]))
        return httpx.Response(200, json={"models": []})

    answering(answer)
    env = {"TALKIES_URL": "http://box:9000/v1/", "TALKIES_AUTH_TOKEN": "secret"}
    assert run("ps", env=env).exit_code == 0
    assert seen == [("http://box:9000/api/ps", "Bearer secret")]


def test_the_first_of_several_tokens_is_sent() -> None:
    client = lists.connect("http://box", " one , two ")
    assert client._http.headers["Authorization"] == "Bearer one"


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (httpx.ConnectTimeout("x"), 2, "did not accept a connection within 5 s"),
        (httpx.ReadTimeout("x"), 1, "did not answer within 30 s"),
        (httpx.RemoteProtocolError("cut"), 1, "broke: cut"),
        (httpx.UnsupportedProtocol("x"), 2, "must begin with http"),
    ],
)
def test_a_broken_connection_is_one_sentence(
    answering: Callable[[Answer], None], failure: Exception, code: int, message: str
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise failure

    answering(fail)
    result = run("models")
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_refused_token_names_the_option(answering: Callable[[Answer], None]) -> None:
    answering(lambda _: httpx.Response(401, json={"error": {"message": "Send a header."}}))
    assert "TALKIES_AUTH_TOKEN" in run("ps").stderr


def test_a_bad_address_is_one_sentence() -> None:
    result = run("ps", "--url", "http://box:port")
    assert result.exit_code == 2
    assert result.stderr.startswith("talkies: http://box:port is not a URL")


@pytest.mark.parametrize("body", ["<html>", "[]", '{"other": 1}', '{"models": 1}'])
def test_another_kind_of_server_is_named_as_that(answering: Callable[[Answer], None], body: str) -> None:
    answering(lambda request: httpx.Response(200, text=body))
    result = run("ps")
    assert result.exit_code == 1
    assert "is it another server?" in result.stderr


def test_an_error_without_a_reason_shows_its_status(answering: Callable[[Answer], None]) -> None:
    answering(lambda request: httpx.Response(502, text="bad"))
    assert "answered 502 Bad Gateway" in run("ps").stderr


# --- on the server ---------------------------------------------------------------------------------------------------
@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What the commands build, pull and serve, without doing any of it."""
    done: dict[str, list[str]] = {"build": [], "pull": [], "serve": []}

    def build(settings: Settings, families: list[str], announce: Callable[[str], None]) -> None:
        done["build"] += families

    def pull(settings: Settings, model: object, progress: Callable[[str, int, int], None], *, verify: bool) -> None:
        progress("model.bin", 1, 2)
        done["pull"].append(model.slug)  # type: ignore[attr-defined]

    def start(settings: Settings, registry: Registry, announce: Callable[[], None]) -> None:
        announce()
        done["serve"].append(str(settings.data_dir))

    monkeypatch.setattr(environments, "build", build)
    monkeypatch.setattr(weights, "pull", pull)
    monkeypatch.setattr(serve, "serve", start)
    return done


def test_serve_prepares_the_two_defaults_and_says_how_to_call_it(prepared: dict[str, list[str]]) -> None:
    result = run("serve", env={"TALKIES_HOST": "0.0.0.0", "TALKIES_PORT": "9123"})
    assert result.exit_code == 0, result.stderr
    assert prepared["build"] == ["tritonserver", "audio_chunks", "kokoro", "whisper"]
    assert prepared["pull"] == ["whisper-base", "kokoro-82m"]
    assert len(prepared["serve"]) == 1
    assert "it has the weights of no model yet." in result.stdout
    for shown in (
        "curl http://127.0.0.1:9123/v1",
        "base_url='http://127.0.0.1:9123/v1'",
        "127.0.0.1:8001",
        "8002/metrics",
    ):
        assert shown in result.stdout


def test_the_lines_to_copy_work_where_a_token_is_wanted(prepared: dict[str, list[str]]) -> None:
    shown = run("serve", env={"TALKIES_AUTH_TOKEN": "sesame"}).stdout
    assert "-H 'Authorization: Bearer TOKEN'" in shown
    assert "api_key='TOKEN'" in shown and "TALKIES_AUTH_TOKEN=TOKEN" in shown
    assert "sesame" not in shown


def test_a_taken_port_is_said_before_anything_is_fetched(prepared: dict[str, list[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--port", str(port))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"talkies: TALKIES_PORT={port} on 127.0.0.1: Address already in use")
    assert prepared == {"build": [], "pull": [], "serve": []}


def test_serve_without_preparation(prepared: dict[str, list[str]]) -> None:
    assert run("serve", "--no-prepare").exit_code == 0
    assert (prepared["build"], prepared["pull"], len(prepared["serve"])) == ([], [], 1)


def test_serve_with_an_outside_tritonserver_builds_no_environment(prepared: dict[str, list[str]]) -> None:
    result = run("serve", env={"TALKIES_TRITON_URL": "triton:8001"})
    assert (prepared["build"], prepared["pull"]) == ([], ["whisper-base", "kokoro-82m"])
    assert "triton:8001" in result.stdout and "metrics" not in result.stdout


def test_enabled_and_preloaded_models_are_prepared(prepared: dict[str, list[str]]) -> None:
    run("serve", env={"TALKIES_ENABLED_MODELS": "kokoro-82m,whisper-large-v3", "TALKIES_PRELOAD": "kokoro-82m"})
    assert prepared["pull"] == ["kokoro-82m", "whisper-large-v3"]


def test_a_registry_without_the_defaults_prepares_what_is_preloaded() -> None:
    whole = Registry.load(PROJECT / "models.json")
    settings = Settings.load(preload="whisper-large-v3")
    assert default_slugs(settings, Registry([whole["whisper-large-v3"]])) == ["whisper-large-v3"]


def test_pull_and_build_take_names(prepared: dict[str, list[str]]) -> None:
    assert run("pull", "whisper-large-v3").exit_code == 0
    assert run("env", "build", "whisper").exit_code == 0
    assert (prepared["pull"], prepared["build"]) == (["whisper-large-v3"], ["whisper"])
    assert run("env", "build").exit_code == 0
    assert prepared["build"][1:] == ["tritonserver", "audio_chunks", "kokoro", "whisper"]


def test_an_unknown_slug_is_one_sentence(prepared: dict[str, list[str]]) -> None:
    result = run("pull", "nonsense")
    assert result.exit_code == 1
    assert result.stderr.startswith("talkies: There is no model 'nonsense'; the models are ")
    assert prepared["pull"] == []


@pytest.mark.parametrize("failure", [StartupError("The port is taken."), BadRequest("The port is taken.")])
def test_what_stops_the_server_is_one_sentence(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(serve, "serve", fail)
    result = run("serve", "--no-prepare")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "talkies: The port is taken.\n")


def test_a_wrong_setting_is_one_sentence() -> None:
    result = run("serve", env={"TALKIES_PORT": "high"})
    assert result.exit_code == 1
    assert result.stderr.startswith("talkies: TALKIES_PORT: ")


def test_a_variable_that_nothing_reads_is_said(prepared: dict[str, list[str]]) -> None:
    links = {  # what Kubernetes makes of services called talkies and talkies-metrics
        "TALKIES_PORT": "tcp://10.0.0.1:8000",
        "TALKIES_METRICS_PORT": "tcp://10.0.0.2:8002",
        "TALKIES_SERVICE_HOST": "10.0.0.1",
        "TALKIES_SERVICE_PORT": "8000",
        "TALKIES_SERVICE_PORT_HTTP": "8000",
        "TALKIES_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "TALKIES_PORT_8000_TCP_ADDR": "10.0.0.1",
        "TALKIES_METRICS_SERVICE_HOST": "10.0.0.2",
    }
    known = {"TALKIES_LOG_LEVEL": "info", "TALKIES_URL": "http://box", "TALKIES_OUTDIR": "x"}
    result = run("serve", "--no-prepare", env={"TALKIES_OPEN_AI_VOICES": "true", "TALKIES_PROT": "1", **links, **known})
    assert result.exit_code == 0 and len(prepared["serve"]) == 1
    said = [line for line in result.stderr.splitlines() if "is not a variable" in line]
    assert (
        len(said) == 2
        and "TALKIES_OPEN_AI_VOICES is not" in said[0]
        and said[0].endswith("; TALKIES_OPENAI_VOICES is one.")
    )


def test_more_to_preload_than_there_is_room_for_is_one_sentence(prepared: dict[str, list[str]]) -> None:
    result = run("serve", env={"TALKIES_PRELOAD": "whisper-base,kokoro-82m"})
    assert (result.exit_code, prepared["serve"]) == (1, [])
    assert result.stderr == ("talkies: TALKIES_PRELOAD names 2 models, but TALKIES_MAX_LOADED_MODELS has room for 1.\n")


def test_render_prints_the_folder(tmp_path: Path) -> None:
    result = run("render", env={"TALKIES_DEVICE": "cpu"})
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'data' / 'repository'}\n")
    assert (tmp_path / "data" / "repository" / "whisper-base" / "config.pbtxt").is_file()
