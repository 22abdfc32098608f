"""`file_path` as a URL on the running server: the cache, and the addresses that are refused."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from harness.server import Server, running

METADATA = "http://169.254.169.254/latest/meta-data/"


class Handler(BaseHTTPRequestHandler):
    paths: ClassVar[list[str]] = []
    files: ClassVar[dict[str, bytes]] = {}
    redirects: ClassVar[dict[str, str]] = {}
    go: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.paths.append(path)
        if path.startswith("/held"):
            self.go.wait(20)
        if location := self.redirects.get(path):
            self.send_response(302)
            self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif (body := self.files.get(path)) is None:
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) * (2 if path.startswith("/short") else 1)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(jfk: Path) -> Iterator[str]:
    """The URL of a web server on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        url = f"http://127.0.0.1:{web.server_address[1]}"
        audio = jfk.read_bytes()
        Handler.files = {name: audio for name in ("/a.flac", "/held.flac", "/there.flac", "/short.flac")}
        Handler.files |= {"/big.wav": bytes(3_000_000), "/text.txt": b"no audio"}
        Handler.redirects = {f"/hop{n}": f"/hop{n + 1}" for n in range(6)}
        Handler.redirects |= {"/hop6": "/there.flac", "/metadata": METADATA, "/away": "ftp://127.0.0.1/a.flac"}
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            yield url
        finally:
            web.shutdown()
            thread.join()


def transcribe(server: Server, url: str, **fields: str) -> httpx.Response:
    with server.http() as http:
        return http.post("/v1/audio/transcriptions", data={"model": "whisper-base", "file_path": url, **fields})


def downloads(server: Server) -> set[str]:
    return {path.name for path in (server.data / "files" / "downloads").glob("*")}


def assert_refused(server: Server, url: str, *words: str) -> None:
    before = downloads(server)
    answer = transcribe(server, url)
    assert answer.status_code == 400, answer.text
    body = answer.json()
    assert body["detail"] == body["error"]["message"]
    assert body["error"]["param"] == "file_path"
    for word in words:
        assert word in body["detail"]
    assert downloads(server) == before
    assert not list((server.data / "files" / ".incoming").glob("*"))


def test_the_second_request_for_a_url_finds_it_in_the_cache(server: Server, site: str) -> None:
    url = f"{site}/a.flac?episode=1"
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-a.flac"
    Handler.paths.clear()
    for _ in range(2):
        answer = transcribe(server, url)
        assert answer.status_code == 200, answer.text
        assert "what your country can do for you" in answer.json()["text"]
    assert Handler.paths == ["/a.flac"]
    assert name in downloads(server)
    with server.http() as http:
        assert f"downloads/{name}" in [file["path"] for file in http.get("/v1/files").json()["files"]]
        assert http.delete(f"/v1/files/downloads/{name}").status_code == 200
    assert transcribe(server, url, response_format="srt").status_code == 200
    assert Handler.paths == ["/a.flac", "/a.flac"]


def test_requests_for_one_url_at_the_same_time_share_a_download(server: Server, site: str) -> None:
    Handler.paths.clear()
    Handler.go.clear()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(transcribe, server, f"{site}/held.flac") for _ in range(4)]
        threading.Timer(1.0, Handler.go.set).start()
        assert [answer.result().status_code for answer in answers] == [200] * 4
    assert Handler.paths == ["/held.flac"]


def test_redirects(server: Server, site: str) -> None:
    Handler.paths.clear()
    assert transcribe(server, f"{site}/hop2").status_code == 200
    assert Handler.paths == ["/hop2", "/hop3", "/hop4", "/hop5", "/hop6", "/there.flac"]
    Handler.paths.clear()
    assert_refused(server, f"{site}/hop1", "5 redirects")
    assert len(Handler.paths) == 6
    assert_refused(server, f"{site}/metadata", "169.254.169.254 leads to an address")
    assert_refused(server, f"{site}/away")


@pytest.mark.parametrize(
    "url",
    [
        METADATA,
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[fd00:ec2::254]/latest/",
        "http://user:secret@169.254.169.254/?token=secret",
    ],
)
def test_link_local_addresses_are_always_refused(server: Server, url: str) -> None:
    assert_refused(server, url, "does not fetch from")
    assert "secret" not in transcribe(server, url).text
    assert "secret" not in server.log()


def test_downloads_that_fail(server: Server, site: str) -> None:
    assert_refused(server, f"{site}/missing.wav", "answered 404")
    assert_refused(server, f"{site}/short.flac", "broke off")
    assert_refused(server, "http://127.0.0.1:1/a.wav", "no connection")
    assert_refused(server, "http://no-such-name.invalid/a.wav", "cannot be resolved")
    assert_refused(server, site.replace("http", "https") + "/a.flac", "secure")
    for url in ("http://", "http://[::1/", "http://x:99999/", "ftp://x/a.wav", "file:///etc/passwd"):
        assert_refused(server, url)


def test_what_is_no_audio(server: Server, site: str) -> None:
    answer = transcribe(server, f"{site}/text.txt")
    assert answer.status_code == 400, answer.text


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("guarded")
    with running(data, BLOCK_PRIVATE_DOWNLOADS="true") as server:
        yield server


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "LOCALHOST.", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "0.0.0.0"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[2002:7f00:1::]", "[64:ff9b::7f00:1]"),
        *("10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "224.0.0.1", "240.0.0.1", "[fc00::1]", "[ff02::1]"),
        *("169.254.169.254", "[fe80::1]", "[fe80::1%25lo]", "127。0。0。1", "user@127.0.0.1"),
    ],
)
def test_private_addresses_are_refused_with_the_guard_on(guarded: Server, site: str, host: str) -> None:
    Handler.paths.clear()
    assert_refused(guarded, f"{site.replace('127.0.0.1', host)}/a.flac")
    assert Handler.paths == []


def test_the_cap_of_downloads(tmp_path: Path, site: str) -> None:
    with running(tmp_path / "data", MAX_DOWNLOAD_BYTES="2000000", MAX_UPLOAD_BYTES="1000") as server:
        assert_refused(server, f"{site}/big.wav", "larger than 2000000 bytes")
        assert transcribe(server, f"{site}/a.flac").status_code == 200  # the cap of uploads is another one
