"""The commands as somebody at a terminal sees them: progress, text as it comes, pipes that close, help, completion."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from talkies.cli.main import app
from talkies.cli.progress import Rows, length
from typer.main import get_command
from typer.testing import CliRunner

from harness import audio
from harness.cli import run
from harness.terminal import at_terminal, talkies

TEXT = "One sentence. Another one."
ANSWERS: dict[str, Any] = {
    "/api/ps": {"models": [{"model": "m", "modality": "asr", "idle_seconds": 1.0, "active_requests": 0}]},
    "/v1/models": {"data": [{"id": "m", "modality": "asr", "available": True, "owned_by": "o", "languages": ["en"]}]},
    "/v1/audio/voices": {"voices": [{"voice": "ann", "model": "m", "default": True, "language": "en"}]},
    "/v1/files": {"files": [{"path": "a.wav", "size": 1, "modified": "2026-01-01T00:00:00Z"}]},
}


class Service(BaseHTTPRequestHandler):
    """Answers lists; transcribes in two steps, the second of which waits for `go`."""

    go = threading.Event()
    asked = threading.Event()

    def do_GET(self) -> None:
        self.answer(json.dumps(ANSWERS[self.path]).encode(), "application/json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if b"progress" not in body:
            self.answer(TEXT.encode(), "text/plain")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        first, second = TEXT[:13], TEXT[13:]
        self.send({"type": "transcript.text.delta", "delta": first}, {"type": "transcript.progress", "seconds": 63})
        self.asked.set()
        self.go.wait(30)
        self.send(
            {"type": "transcript.text.delta", "delta": second},
            {"type": "transcript.answer", "content": TEXT},
            {"type": "transcript.text.done", "text": TEXT},
        )

    def send(self, *events: dict[str, Any]) -> None:
        self.wfile.write(b": hello\n\n" + b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events))
        self.wfile.flush()

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def service() -> Iterator[str]:
    Service.go.clear()
    Service.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        Service.go.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Over eight minutes, of silence."""
    path = tmp_path / "talk.flac"
    path.write_bytes(audio.encode(np.zeros(8000 * 487, np.int16), 8000, "flac", "flac"))
    return path


# --- progress --------------------------------------------------------------------------------------------------------
def test_the_text_comes_as_it_is_made(service: str, recording: Path) -> None:
    with at_terminal("transcribe", recording, "--url", service) as (process, screen):
        screen.read_until("One sentence.")
        assert "Another" not in screen.text
        Service.go.set()
        screen.read_all()
        assert process.wait(20) == 0
    assert screen.text.count("One sentence.") == 1
    assert screen.text.endswith("One sentence. Another one.\r\n")


@pytest.mark.parametrize("format", ["text", "srt", "json"])
def test_seconds_are_shown_while_the_answer_goes_to_a_pipe(service: str, recording: Path, format: str) -> None:
    reading, writing = os.pipe()
    with at_terminal("transcribe", recording, "--url", service, "-f", format, stdout=writing) as (process, screen):
        os.close(writing)
        screen.read_until("talk.flac", "1:03 of 8:07")
        Service.go.set()
        screen.read_all()
        assert process.wait(20) == 0
    with os.fdopen(reading) as pipe:
        assert pipe.read() == f"{TEXT}\n"


def test_ctrl_c_leaves_the_bars_where_they_are(service: str, recording: Path) -> None:
    another = recording.with_name("another.flac")
    another.write_bytes(b"no length")
    with at_terminal("transcribe", recording, another, "--url", service, stdout=subprocess.DEVNULL) as (
        process,
        screen,
    ):
        screen.read_until("1:03 of 8:07", "another.flac", "0/2")
        process.send_signal(signal.SIGINT)
        screen.read_all()
        assert process.wait(20) == 130
    assert "1/2" not in screen.text and "2/2" not in screen.text and "Traceback" not in screen.text


def test_the_rows_overwrite_no_transcript(service: str, recording: Path) -> None:
    files = [recording, *(recording.with_name(f"{name}.flac") for name in ("two", "three"))]
    for file in files[1:]:
        file.write_bytes(b"no length")
    with at_terminal("transcribe", *files, "-j", "1", "--url", service) as (process, screen):
        screen.read_until("1:03 of 8:07", "0/3")
        Service.go.set()
        screen.read_all()
        assert process.wait(20) == 0
    lines = [line.strip() for line in screen.shown() if line.strip()]
    assert lines == [line for file in files for line in (f"==> {file} <==", TEXT)]


def test_a_program_gets_no_bars_and_no_stream(service: str, recording: Path) -> None:
    done = subprocess.run(
        talkies("transcribe", recording, "--url", service), capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (f"{TEXT}\n", "")
    assert not Service.asked.is_set()


def test_rows_of_any_name_and_length(tmp_path: Path) -> None:
    screen = Console(force_terminal=True, width=80, file=(tmp_path / "screen").open("w"))
    with screen.file, Rows(screen, 3, overall=True) as rows:
        for name, total in (("[bold]x" * 20, 1e6), ("", None), ("\x1b[2J", 0.0)):
            with rows.row(name, total) as tell:
                tell(3723.0)
                rows._progress.refresh()
            rows.advance()
    shown = (tmp_path / "screen").read_text()
    assert "1:02:03" in shown and "3/3" in shown and "[bold]x" in shown and "\x1b[2J" not in shown


def test_the_length_of_what_has_none(tmp_path: Path) -> None:
    for content in (b"", b"text", b"fLaC"):
        (tmp_path / "a.flac").write_bytes(content)
        assert length(tmp_path / "a.flac") is None
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "absent", tmp_path / "pipe", Path("-")):
        assert length(path) is None


# --- pipes that close ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "command",
    ["transcribe FILE FILE", "transcribe FILE", "models", "voices --json", "speak Hi. -o -"],
)
def test_who_has_enough_gets_no_complaint(service: str, recording: Path, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [recording if word == "FILE" else word for word in command.split()]
    try:
        done = subprocess.run(
            talkies(*words, "--url", service), stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


# --- help ------------------------------------------------------------------------------------------------------------
def commands(command: Any, *names: str) -> Iterator[tuple[str, ...]]:
    yield names
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *names, name)


@pytest.mark.parametrize("names", list(commands(get_command(app))), ids=lambda names: " ".join(names) or "talkies")
def test_help_breaks_no_word_at_80_columns(names: tuple[str, ...]) -> None:
    def words(columns: int) -> set[str]:
        result = run(*names, "--help", env={"COLUMNS": str(columns)})
        assert result.exit_code == 0
        assert max(map(len, result.stdout.splitlines())) <= columns
        return set(result.stdout.replace("│", " ").split())

    broken = {word for word in words(400) - words(80) if "─" not in word}
    assert not broken


# --- completion ------------------------------------------------------------------------------------------------------
def complete(shell: str, line: str) -> list[str]:
    """What typer's script of a shell is given for a line whose last word is begun."""
    words = line.split(" ")
    given = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)} if shell == "bash" else {}
    given |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell != "bash" else {}
    env = {"_TALKIES_COMPLETE": f"complete_{shell}", **given}
    result = CliRunner().invoke(app, [], prog_name="talkies", env=env)
    return result.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "offered", "absent"),
    [
        ("talkies tr", "transcribe", "speak"),
        ("talkies files p", "put", "get"),
        ("talkies transcribe --out", "--output-dir", "--format"),
        ("talkies transcribe a.wav --format v", "verbose_json", "srt"),
        ("talkies bulk list.txt -f s", "srt", "vtt"),
        ("talkies speak Hi. -f o", "opus", "mp3"),
    ],
)
def test_completion(shell: str, line: str, offered: str, absent: str) -> None:
    found = " ".join(complete(shell, line))
    assert offered in found and absent not in found
