"""/v1/files on the running server: bytes on the wire, kills, hang-ups, and transcriptions of staged files."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from harness.server import ASR, Server, wait_until

CAP = 1_000_000


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with server.http() as http:
        yield http


def raw(server: Server, method: str, target: str, body: bytes = b"", *headers: str) -> tuple[int, dict[str, object]]:
    """Status and JSON of a request that no client library has normalized."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        lines = [
            f"{method} {target} HTTP/1.1",
            "Host: x",
            "Connection: close",
            f"Content-Length: {len(body)}",
            *headers,
        ]
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        answer = b""
        while block := connection.recv(65536):
            answer += block
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(content)


def in_flight(server: Server) -> list[Path]:
    return list((server.data / "files" / ".incoming").glob("*"))


def test_a_file_comes_and_goes(http: httpx.Client, server: Server, jfk: Path) -> None:
    content = jfk.read_bytes()
    put = http.put("/v1/files/speeches/1961/jfk.flac", content=content)
    assert put.status_code == 201
    assert put.json()["size"] == len(content)
    assert put.json() in http.get("/v1/files").json()["files"]
    assert (server.data / "files" / "speeches" / "1961" / "jfk.flac").read_bytes() == content
    got = http.get("/v1/files/speeches/1961/jfk.flac")
    assert got.content == content
    assert got.headers["content-type"].startswith("audio/")
    assert http.head("/v1/files/speeches/1961/jfk.flac").headers["content-length"] == str(len(content))
    part = http.get("/v1/files/speeches/1961/jfk.flac", headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, content[4:8])
    assert http.get("/v1/files/speeches/1961/jfk.flac", headers={"Range": "bytes=99999999-"}).status_code == 416
    assert http.delete("/v1/files/speeches/1961/jfk.flac").status_code == 200
    assert not (server.data / "files" / "speeches").exists()
    for method in ("GET", "DELETE"):
        answer = http.request(method, "/v1/files/speeches/1961/jfk.flac")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_a_staged_file_is_transcribed(http: httpx.Client, jfk: Path) -> None:
    http.put("/v1/files/heard/jfk.flac", content=jfk.read_bytes())
    texts = set()
    for path in ("heard/jfk.flac", "/heard/jfk.flac"):
        answer = http.post("/v1/audio/transcriptions", data={"model": "whisper-base", "file_path": path})
        assert answer.status_code == 200, answer.text
        texts.add(answer.json()["text"])
    (text,) = texts
    assert "what your country can do for you" in text
    http.delete("/v1/files/heard/jfk.flac")
    gone = http.post("/v1/audio/transcriptions", data={"model": "whisper-base", "file_path": "heard/jfk.flac"})
    assert (gone.status_code, gone.json()["error"]["param"]) == (404, "file_path")


@pytest.mark.parametrize(
    "target",
    [
        *("..", "../uploads/x", "a/../../x", "./a", "a/.", "a//b", "a/", "", "///etc/passwd"),
        *("%2e%2e/x", "a%2F..%2F..%2Fx", "..%2f..%2fetc%2fpasswd", "a%5C..%5Cb", "a\\b", "a%00b", "%2Fa%2F%2Fb"),
    ],
)
def test_hostile_paths_on_the_wire(server: Server, target: str) -> None:
    before = sorted((server.data / "files").rglob("*"))
    for method, body in (("GET", b""), ("PUT", b"x"), ("DELETE", b"")):
        status, answer = raw(server, method, f"/v1/files/{target}", body)
        assert status == 400, answer
        assert set(answer) == {"detail", "error"}
        assert str(server.data) not in json.dumps(answer)
    assert sorted((server.data / "files").rglob("*")) == before


@pytest.mark.parametrize("path", ["a\0b", "a\\b", "./a", "a/../b", "..", "a//b", "//a", "/"])
def test_hostile_paths_of_a_transcription(http: httpx.Client, path: str) -> None:
    answer = http.post("/v1/audio/transcriptions", data={"model": "whisper-base", "file_path": path})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file_path")


def test_a_leading_slash_is_none(http: httpx.Client, server: Server) -> None:
    assert raw(server, "PUT", "/v1/files//slash/one.txt", b"1")[0] == 201
    assert raw(server, "PUT", "/v1/files/slash%2Fone.txt", b"2")[0] == 200
    assert http.get("/v1/files/slash/one.txt").content == b"2"
    assert raw(server, "DELETE", "/v1/files//slash/one.txt")[0] == 200


def test_links_that_lead_out(http: httpx.Client, server: Server, tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_text("secret")
    link = server.data / "files" / "out"
    link.symlink_to(tmp_path)
    try:
        for method, path in (
            ("GET", "out/secret.wav"),
            ("PUT", "out/new"),
            ("PUT", "out/secret.wav"),
            ("DELETE", "out/secret.wav"),
        ):
            assert http.request(method, f"/v1/files/{path}", content=b"x").status_code == 400
        answer = http.post("/v1/audio/transcriptions", data={"model": "whisper-base", "file_path": "out/secret.wav"})
        assert answer.status_code == 400
        assert "out/secret.wav" not in [file["path"] for file in http.get("/v1/files").json()["files"]]
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("secret.wav", "secret")]
    finally:
        link.unlink()


def test_puts_of_one_path_do_not_mix(http: httpx.Client, server: Server) -> None:
    size = 3_000_000

    def put(letter: str) -> int:
        return http.put("/v1/files/mixed/one", content=letter.encode() * size).status_code

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(put, "abcdef")) <= {200, 201}
    content = http.get("/v1/files/mixed/one").content
    assert content == content[:1] * size
    assert in_flight(server) == []
    http.delete("/v1/files/mixed/one")


def test_a_put_that_hangs_up_leaves_the_old_file(http: httpx.Client, server: Server) -> None:
    http.put("/v1/files/kept/one", content=b"old")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            b"PUT /v1/files/kept/one HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"n" * 500_000
        )
        wait_until(lambda: in_flight(server), 60, "the upload begins")
        assert http.get("/v1/files/kept/one").content == b"old"
        assert ".incoming" not in http.get("/v1/files").text
    wait_until(lambda: not in_flight(server), 60, "the upload's file goes")
    assert http.get("/v1/files/kept/one").content == b"old"
    http.delete("/v1/files/kept/one")


def test_the_cap_of_a_put_and_a_kill(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server(MAX_UPLOAD_BYTES=str(CAP))
    head = b"PUT /v1/files/big HTTP/1.1\r\nHost: x\r\n"
    with server.http() as http:
        assert http.put("/v1/files/most", content=b"x" * CAP).status_code == 201
        answer = http.put("/v1/files/big", content=b"x" * (CAP + 1))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")
        answer = http.put("/v1/files/big", content=(b"x" * 100_000 for _ in range(30)))
        assert answer.status_code == 413
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(head + b"Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 413")  # before a byte of it was sent
        assert in_flight(server) == []
        assert [file["path"] for file in http.get("/v1/files").json()["files"]] == ["most"]
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head + b"Content-Length: 900000\r\n\r\n" + b"x" * 400_000)
        wait_until(lambda: in_flight(server), 60, "the upload begins")
        children = server.processes()
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    for pid in children:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    assert in_flight(server)
    again = start_server(MAX_UPLOAD_BYTES=str(CAP))
    assert again.data == server.data
    assert in_flight(again) == []
    with again.http() as http:
        assert [file["path"] for file in http.get("/v1/files").json()["files"]] == ["most"]


def test_a_file_that_is_deleted_while_its_transcription_waits(start_server: Callable[..., Server], jfk: Path) -> None:
    server = start_server(MAX_CONCURRENCY="1")
    answers: list[httpx.Response] = []
    with server.http() as http:
        for name in ("first", "waits"):
            http.put(f"/v1/files/{name}.flac", content=jfk.read_bytes())

        def ask(name: str) -> None:
            answers.append(
                http.post("/v1/audio/transcriptions", data={"model": "whisper-base", "file_path": f"{name}.flac"})
            )

        # The first one loads the model, which takes longer than all that follows.
        threads = [threading.Thread(target=ask, args=(name,)) for name in ("first", "waits")]
        for thread in threads:
            thread.start()
            time.sleep(0.3)
        assert http.delete("/v1/files/waits.flac").status_code == 200
        for thread in threads:
            thread.join()
    assert sorted(answer.status_code for answer in answers)[0] == 200
    (refused,) = [answer for answer in answers if answer.status_code != 200]
    assert refused.status_code in (400, 404), refused.text
    assert str(server.data) not in refused.text


def test_staged_files_go_by_age_and_by_size(pooled: Callable[..., Server], jfk: Path) -> None:
    content = jfk.read_bytes()
    size = len(content)
    by_size = pooled(FILES_MAX_BYTES=str(2 * size))
    with by_size.http() as http:
        for name in ("one", "two"):
            http.put(f"/v1/files/{name}.flac", content=content).raise_for_status()
        assert _transcribed(http, "one").status_code == 200  # so "two" is the least recently used
        http.put("/v1/files/three.flac", content=content).raise_for_status()
        wait_until(lambda: _staged(http) == ["one.flac", "three.flac"], 60, "the least recently used has gone")
        assert http.put("/v1/files/big.flac", content=content * 3).status_code == 413
    with pooled(FILES_TTL="1", SWEEPER_INTERVAL="0.2").http() as http:
        http.put("/v1/files/old.flac", content=content).raise_for_status()
        wait_until(lambda: _staged(http) == [], 60, "the old file has gone")


def _transcribed(http: httpx.Client, name: str) -> httpx.Response:
    return http.post("/v1/audio/transcriptions", data={"model": ASR, "file_path": f"{name}.flac"})


def _staged(http: httpx.Client) -> list[str]:
    return [file["path"] for file in http.get("/v1/files").json()["files"]]
