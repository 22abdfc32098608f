"""`talkies bulk` against a server that counts, fails or stalls; and the names of its outputs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from talkies.cli import batch
from talkies.settings import Settings
from typer.testing import Result

from harness.cli import run, use

URL = "https://example.com/talks/episode.mp3"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("MODEL", "FORMAT", "OUTDIR", "LANGUAGE", "DIARIZE"):
        monkeypatch.delenv(f"TALKIES_{name}", raising=False)
    monkeypatch.setattr(batch, "_pause", lambda state: 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"sound of a")
    return tmp_path


class Service:
    """Answers the n-th transcription with the n-th of `answers`, then with "words"; keeps the requests."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/ps":
            return httpx.Response(200, json={"models": []})
        self.requests.append(request)
        answer = self._answers.pop(0) if self._answers else httpx.Response(200, text="words")
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Service]:
    def start(*answers: httpx.Response | Exception) -> Service:
        service = Service(*answers)
        use(monkeypatch, httpx.MockTransport(service))
        return service

    return start


def bulk_of(*sources: str, args: tuple[str, ...] = (), **variables: str) -> Result:
    listed = "".join(f"{source}\n" for source in sources)
    return run("bulk", "-", *args, input=listed, env={f"TALKIES_{k}": v for k, v in variables.items()})


def refusal(status: int, message: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"detail": message, "error": {"message": message}}, headers=headers)


# --- the list and the names ------------------------------------------------------------------------------------------
def test_a_list_has_comments_blank_lines_and_repetitions() -> None:
    assert batch.read_list(["# all\n", "\n", "  a b.wav \r\n", "a#1.wav\n", "a b.wav\n"]) == ["a b.wav", "a#1.wav"]


def names(*sources: str) -> list[str]:
    return [job.output.name for job in batch.plan(sources, Path("out"), ".srt")]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("talks/one.two.wav", "one.two.srt"),
        (URL, "episode.srt"),
        ("HTTP://example.com/a%20b.mp3?sig=x/y.wav#t", "a b.srt"),
        ("http://example.com/..%2f..%2fetc%2fshadow.mp3", ".._.._etc_shadow.srt"),
        ("http://example.com:80/", "example.com:80.srt"),
        ("x" * 300 + ".wav", "x" * 200 + ".srt"),
    ],
)
def test_an_output_is_called_as_its_input(source: str, name: str) -> None:
    assert names(source) == [name]


def test_equal_names_are_told_apart_whatever_the_order() -> None:
    sources = ["one/a.wav", "two/a.mp3", "two/A.mp3", "b.wav"]
    first = names(*sources)
    assert len({name.casefold() for name in first}) == 4
    assert first[3] == "b.srt" and all(name.lower().startswith("a-") for name in first[:3])
    assert names(*reversed(sources)) == first[::-1]


# --- requests and outputs --------------------------------------------------------------------------------------------
def test_files_are_uploaded_and_urls_are_named(serving: Callable[..., Service], folder: Path) -> None:
    service = serving()
    result = bulk_of("a.wav", URL, args=("-j", "1"))
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert b"sound of a" in service.requests[0].content and b'filename="a.wav"' in service.requests[0].content
    assert b"file_path=https%3A%2F%2Fexample.com" in service.requests[1].content
    outputs = {path.name: path.read_text() for path in (folder / "transcripts").iterdir()}
    assert outputs == {"a.txt": "words\n", "episode.txt": "words\n"}
    assert "[1/2] a.wav -> transcripts/a.txt\n" in result.stderr
    assert result.stderr.endswith("talkies: 2 transcribed.\n")


def test_the_variables_of_the_description(serving: Callable[..., Service], folder: Path) -> None:
    service = serving()
    result = bulk_of(
        URL,
        URL="http://box:9000",
        AUTH_TOKEN="one",
        MODEL="whisper-large-v3",
        FORMAT="srt",
        OUTDIR=str(folder / "subs"),
        LANGUAGE="de",
        DIARIZE="true",
    )
    assert result.exit_code == 0, result.stderr
    request = service.requests[0]
    assert (request.url.host, request.headers["Authorization"]) == ("box", "Bearer one")
    fields = dict(httpx.QueryParams(request.content.decode()))
    assert fields == {
        "model": "whisper-large-v3",
        "response_format": "srt",
        "language": "de",
        "diarization": "true",
        "file_path": URL,
    }
    assert (folder / "subs" / "episode.srt").read_text() == "words\n"


def test_the_variables_do_not_disturb_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Settings.load()
    for name in ("URL", "MODEL", "FORMAT", "OUTDIR", "LANGUAGE", "DIARIZE"):
        monkeypatch.setenv(f"TALKIES_{name}", "x")
    assert Settings.load() == before


@pytest.mark.parametrize(
    ("format", "suffix"),
    [("text", ".txt"), ("json", ".json"), ("verbose_json", ".json"), ("diarized_json", ".json"), ("vtt", ".vtt")],
)
def test_each_format_has_its_suffix(serving: Callable[..., Service], folder: Path, format: str, suffix: str) -> None:
    serving()
    assert bulk_of("a.wav", args=("-f", format, "-o", "out")).exit_code == 0
    assert [path.name for path in (folder / "out").iterdir()] == [f"a{suffix}"]


def test_names_that_are_no_text_are_read_and_sent(serving: Callable[..., Service], folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    (folder / name).write_bytes(b"old name")
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfcaf\xe9.wav\r\n")
    service = serving()
    result = run("bulk", "list.txt")
    assert result.exit_code == 0, result.stderr
    assert b"old name" in service.requests[0].content


# --- failures --------------------------------------------------------------------------------------------------------
def test_what_fails_leaves_the_others(serving: Callable[..., Service], folder: Path) -> None:
    serving(refusal(400, "It holds no audio."))
    result = bulk_of("a.wav", "absent.wav", str(folder), URL, args=("-j", "1"))
    assert result.exit_code == 1
    assert "a.wav: It holds no audio.\n" in result.stderr
    assert "absent.wav: No such file or directory.\n" in result.stderr
    assert f"{folder}: Is a directory.\n" in result.stderr
    assert result.stderr.endswith("talkies: 1 transcribed, 3 failed.\n")
    assert [path.name for path in (folder / "transcripts").iterdir()] == ["episode.txt"]


def test_a_second_run_does_what_is_missing(serving: Callable[..., Service], folder: Path) -> None:
    serving(refusal(400, "It holds no audio."))
    assert bulk_of("a.wav", URL, args=("-j", "1")).exit_code == 1
    service = serving()
    result = bulk_of("a.wav", URL)
    assert result.exit_code == 0
    assert [b"sound of a" in request.content for request in service.requests] == [True]
    assert "1 transcribed, 1 kept" in result.stderr
    service = serving(ValueError("no request is needed"))
    assert bulk_of("a.wav", URL).exit_code == 0
    assert service.requests == []
    service = serving(httpx.Response(200, text="other"), httpx.Response(200, text="other"))
    assert bulk_of("a.wav", URL, args=("--force",)).exit_code == 0
    assert (folder / "transcripts" / "a.txt").read_text() == "other\n"


def test_half_an_output_is_not_an_output(serving: Callable[..., Service], folder: Path) -> None:
    (folder / "transcripts").mkdir()
    (folder / "transcripts" / "a.txt.part").write_text("wo")
    serving()
    assert bulk_of("a.wav").exit_code == 0
    assert {path.name for path in (folder / "transcripts").iterdir()} == {"a.txt"}


def test_an_output_that_cannot_be_written_is_a_failure(serving: Callable[..., Service], folder: Path) -> None:
    serving()
    (folder / "transcripts" / "a.txt").mkdir(parents=True)
    result = bulk_of("a.wav", args=("--force",))
    assert result.exit_code == 1
    assert "transcripts/a.txt cannot be written: Is a directory.\n" in result.stderr


@pytest.mark.parametrize(
    "hiccup",
    [
        refusal(503, "The queue is full.", **{"Retry-After": "2"}),
        httpx.RemoteProtocolError("cut"),
        httpx.ConnectError("refused"),
    ],
)
def test_a_busy_or_restarting_server_is_borne_with(serving: Callable[..., Service], hiccup: object) -> None:
    service = serving(hiccup, hiccup)
    result = bulk_of("a.wav")
    assert result.exit_code == 0, result.stderr
    assert len(service.requests) == 3
    assert all(b"sound of a" in request.content for request in service.requests)


def test_patience_ends(serving: Callable[..., Service]) -> None:
    service = serving(*[refusal(503, "The queue is full.", **{"Retry-After": "2"})] * 100)
    result = bulk_of("a.wav")
    assert result.exit_code == 1
    assert "a.wav: The queue is full.\n" in result.stderr
    assert len(service.requests) == batch._ATTEMPTS


def test_what_would_fail_again_is_not_sent_again(serving: Callable[..., Service]) -> None:
    service = serving(refusal(503, "No weights."), refusal(500, "Broken."))
    assert bulk_of("a.wav", URL).exit_code == 1
    assert len(service.requests) == 2


def test_a_server_that_stays_away_ends_the_run(serving: Callable[..., Service]) -> None:
    serving(httpx.Response(200, text="words"), *[httpx.ConnectError("refused")] * 100)
    result = bulk_of("a.wav", URL, URL + "2", args=("-j", "1"))
    assert result.exit_code == 2
    assert "Nothing answers at" in result.stderr
    assert result.stderr.endswith("talkies: 1 transcribed, 2 not done.\n")


@pytest.mark.parametrize(("status", "message"), [(403, "That is not yours."), (500, "Broken.")])
def test_a_server_that_lets_nobody_in_gets_no_files(monkeypatch: pytest.MonkeyPatch, status: int, message: str) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        return refusal(status, message)

    use(monkeypatch, httpx.MockTransport(answer))
    result = bulk_of("a.wav")
    assert (result.exit_code, seen) == (2, ["/api/ps"])
    assert result.stderr == f"talkies: {message}\ntalkies: 0 transcribed, 1 not done.\n"


@pytest.mark.parametrize(
    "args", [["bulk"], ["bulk", "absent.txt"], ["bulk", "a.txt", "-f", "doc"], ["bulk", "a.txt", "-o", "a.txt"]]
)
def test_wrong_usage(serving: Callable[..., Service], folder: Path, args: list[str]) -> None:
    service = serving()
    (folder / "a.txt").write_text("a.wav\n")
    assert run(*args).exit_code == 2
    assert run("bulk", "-", input="# nothing\n").exit_code == 2
    assert service.requests == []


def test_no_more_at_a_time_than_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    running, most = 0, 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        if request.url.path == "/api/ps":
            return httpx.Response(200, json={"models": []})
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return httpx.Response(200, text="words")

    use(monkeypatch, httpx.MockTransport(answer))
    assert bulk_of(*(f"{URL}{number}" for number in range(7)), args=("-j", "3")).exit_code == 0
    assert most == 3


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def stalling() -> Iterator[tuple[str, threading.Event]]:
    """A server that transcribes URLs, and for anything else says that it got it and then nothing."""
    stalled = threading.Event()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(b'{"models": []}')

        def do_POST(self) -> None:
            if b"file_path" in self.rfile.read(int(self.headers["Content-Length"])):
                self.answer(b"words")
            else:
                stalled.set()
                over.wait(30)

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{service.server_port}", stalled
        over.set()
        service.shutdown()
        thread.join()


def test_ctrl_c_keeps_what_is_finished(stalling: tuple[str, threading.Event], folder: Path) -> None:
    url, stalled = stalling
    (folder / "list.txt").write_text(f"{URL}\na.wav\n")
    command = [sys.executable, "-m", "talkies", "bulk", "list.txt", "--url", url, "-j", "1"]

    def listen() -> None:
        """A shell lets what it starts in the background ignore Ctrl-C, and that is inherited."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listen) as process:
        try:
            assert stalled.wait(20)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert stderr.endswith("talkies: 1 transcribed, 1 not done.\n")
    assert [path.name for path in (folder / "transcripts").iterdir()] == ["episode.txt"]
