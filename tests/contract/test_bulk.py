"""`talkies bulk` and its script against the running server, as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from talkies.settings import PROJECT

from harness.server import Server, free_ports
from harness.words import normalize


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def web(jfk: Path) -> Iterator[str]:
    """The URL of the recording on a web server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(jfk.parent))) as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{service.server_port}/{jfk.name}"
        service.shutdown()
        thread.join()


def bulk(folder: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script in `folder`, with `TALKIES_*` variables given without their prefix."""
    return subprocess.run(
        ["/bin/bash", str(PROJECT / "scripts" / "bulk_transcribe"), *args],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("TALKIES_")}
        | {f"TALKIES_{k}": v for k, v in variables.items()},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_files_and_urls_resume_and_exit_codes(server: Server, jfk: Path, web: str, tmp_path: Path) -> None:
    (tmp_path / "speech.flac").symlink_to(jfk)
    listed = tmp_path / "inputs.txt"
    listed.write_text(f"# a file, a URL, and a mistake\nspeech.flac\n\n{web}\nabsent.flac\n")
    subs = tmp_path / "subs"

    first = bulk(tmp_path, "inputs.txt", URL=server.url, FORMAT="srt", OUTDIR="./subs", LANGUAGE="en")
    assert first.returncode == 1, first.stderr
    assert first.stdout == ""
    assert "absent.flac: No such file or directory." in first.stderr
    assert first.stderr.endswith("talkies: 2 transcribed, 1 failed.\n")
    assert {path.name for path in subs.iterdir()} == {"speech.srt", "jfk.srt"}
    for output in subs.iterdir():
        text = output.read_text()
        assert text.startswith("1\n00:00:") and "country" in normalize(text)

    (subs / "speech.srt").write_text("mine\n")
    (subs / "jfk.srt").unlink()
    listed.write_text(f"speech.flac\n{web}\n")
    second = bulk(tmp_path, "inputs.txt", URL=server.url, FORMAT="srt", OUTDIR="./subs", LANGUAGE="en")
    assert second.returncode == 0, second.stderr
    assert "1 transcribed, 1 kept" in second.stderr
    assert (subs / "speech.srt").read_text() == "mine\n"
    assert "country" in normalize((subs / "jfk.srt").read_text())


def test_the_servers_sentence_is_shown(server: Server, jfk: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.flac").write_bytes(b"this is no audio")
    (tmp_path / "inputs.txt").write_text(f"noise.flac\n{jfk}\n")
    result = bulk(tmp_path, "inputs.txt", "-f", "json", "-o", "out", URL=server.url)
    assert result.returncode == 1
    assert "noise.flac: " in result.stderr and "Traceback" not in result.stderr
    assert "country" in normalize(json.loads((tmp_path / "out" / "jfk.json").read_text())["text"])
    unknown = bulk(tmp_path, "inputs.txt", "-o", "other", URL=server.url, MODEL="nonsense")
    assert unknown.returncode == 1
    assert unknown.stderr.count("There is no model 'nonsense'") == 2
    assert list((tmp_path / "other").iterdir()) == []


def test_no_server_and_wrong_usage_exit_with_2(tmp_path: Path) -> None:
    (tmp_path / "inputs.txt").write_text("speech.flac\n")
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    absent = bulk(tmp_path, "inputs.txt", URL=url)
    assert absent.returncode == 2
    assert f"Nothing answers at {url}" in absent.stderr
    assert bulk(tmp_path, "absent.txt", URL=url).returncode == 2
    assert bulk(tmp_path, "inputs.txt", URL=url, FORMAT="docx").returncode == 2
