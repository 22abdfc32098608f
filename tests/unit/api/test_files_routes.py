"""/v1/files over HTTP, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.facade import Facade, facade

CAP = 200_000
URL = "/v1/files/"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Facade]:
    async with facade(tmp_path, max_upload_bytes=CAP) as running:
        yield running


def assert_error(response: httpx.Response, status: int, *words: str, param: str | None = "path") -> None:
    assert response.status_code == status, response.text
    body = response.json()
    assert body["detail"] == body["error"]["message"]
    assert body["error"]["param"] == param
    for word in words:
        assert word in body["detail"]


def staged(api: Facade) -> set[str]:
    root = api.settings.files
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


async def test_a_file_comes_and_goes(api: Facade) -> None:
    put = await api.client.put(URL + "a/b%20c.mp3", content=b"sound")
    assert put.status_code == 201
    entry = put.json()
    assert set(entry) == {"path", "size", "modified"}
    assert (entry["path"], entry["size"]) == ("a/b c.mp3", 5)
    listed = (await api.client.get("/v1/files")).json()
    assert listed["files"][0] == entry
    assert [file["path"] for file in listed["files"]] == ["a/b c.mp3", "talks/one.flac"]
    again = await api.client.put(URL + "/a/b%20c.mp3", content=b"other")
    assert (again.status_code, again.json()["path"]) == (200, "a/b c.mp3")
    got = await api.client.get(URL + "a/b%20c.mp3")
    assert (got.status_code, got.content) == (200, b"other")
    gone = await api.client.delete(URL + "/a/b%20c.mp3")
    assert (gone.status_code, gone.json()) == (200, {"path": "a/b c.mp3", "deleted": True})
    assert staged(api) == {"talks/one.flac"}
    assert not (api.settings.files / "a").exists()
    for method in ("GET", "DELETE", "HEAD"):
        assert (await api.client.request(method, URL + "a/b%20c.mp3")).status_code == 404
    assert_error(await api.client.get(URL + "a/b%20c.mp3"), 404, "a/b c.mp3")


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.mp3", "audio/mpeg"),
        ("a.flac", "audio/"),
        ("a.html", "text/html; charset=utf-8"),
        ("a.svg", "image/svg+xml"),
        ("a.txt.gz", "application/octet-stream"),
        ("a.qqq", "application/octet-stream"),
        ("plain", "application/octet-stream"),
    ],
)
async def test_files_are_safe_to_open_in_a_browser(api: Facade, name: str, media_type: str) -> None:
    await api.client.put(URL + name, content=b"<script>alert(1)</script>")
    headers = (await api.client.get(URL + name)).headers
    assert headers["content-type"].startswith(media_type)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == "attachment"
    assert headers["content-security-policy"] == "sandbox"


async def test_head(api: Facade) -> None:
    head = await api.client.head(URL + "talks/one.flac")
    got = await api.client.get(URL + "talks/one.flac")
    assert (head.status_code, head.content, got.content) == (200, b"", b"staged")
    ignored = ("x-request-id", "date")
    kept = [
        {n: v for n, v in response.headers.items() if n not in ignored and "timing" not in n and "-ms" not in n}
        for response in (head, got)
    ]
    assert kept[0] == kept[1]
    assert head.headers["content-length"] == "6"
    assert head.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "content", "range"),
    [
        ("bytes=0-1", b"st", "bytes 0-1/6"),
        ("bytes=4-", b"ed", "bytes 4-5/6"),
        ("bytes=-3", b"ged", "bytes 3-5/6"),
        ("bytes=-100", b"staged", "bytes 0-5/6"),
        ("bytes=2-100", b"aged", "bytes 2-5/6"),
        ("BYTES=0-0", b"s", "bytes 0-0/6"),
    ],
)
async def test_ranges(api: Facade, asked: str, content: bytes, range: str) -> None:
    response = await api.client.get(URL + "talks/one.flac", headers={"Range": asked})
    assert (response.status_code, response.content) == (206, content)
    assert response.headers["content-range"] == range
    assert int(response.headers["content-length"]) == len(content)
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_several_ranges(api: Facade) -> None:
    response = await api.client.get(URL + "talks/one.flac", headers={"Range": "bytes=0-1,4-5"})
    assert response.status_code == 206
    assert response.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert b"\r\n\r\nst\r\n" in response.content
    assert b"bytes 4-5/6\r\n\r\ned\r\n" in response.content
    assert int(response.headers["content-length"]) == len(response.content)


@pytest.mark.parametrize("asked", ["bytes=6-", "bytes=100-200", "bytes=-0"])
async def test_ranges_outside_the_file(api: Facade, asked: str) -> None:
    response = await api.client.get(URL + "talks/one.flac", headers={"Range": asked})
    assert_error(response, 416, "6", param=None)
    assert response.json()["error"]["code"] == "range_not_satisfiable"
    assert response.headers["content-range"] == "bytes */6"


@pytest.mark.parametrize("asked", ["bytes=", "bytes", "bytes=x-y", "bytes=3-1"])
async def test_malformed_ranges(api: Facade, asked: str) -> None:
    assert_error(await api.client.get(URL + "talks/one.flac", headers={"Range": asked}), 400, "Range", param=None)


async def test_ranges_in_other_units_count_as_not_sent(api: Facade) -> None:
    response = await api.client.get(URL + "talks/one.flac", headers={"Range": "seconds=1-2"})
    assert (response.status_code, response.content) == (200, b"staged")


async def test_a_range_of_the_file_as_it_was(api: Facade) -> None:
    path = URL + "talks/one.flac"
    etag = (await api.client.get(path)).headers["etag"]
    headers = {"Range": "bytes=0-1", "If-Range": etag}
    assert (await api.client.get(path, headers=headers)).content == b"st"
    await api.client.put(path, content=b"replaced")
    assert (await api.client.get(path, headers=headers)).content == b"replaced"


async def test_a_file_that_is_replaced_while_it_is_sent(api: Facade) -> None:
    """Its reader gets the one that it began with; and no descriptor stays open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    await api.client.put(URL + "big", content=b"a" * 150_000)
    messages: list[dict[str, Any]] = []
    replaced = asyncio.Event()

    async def send(message: Any) -> None:
        messages.append(message)
        if message["type"] == "http.response.start":
            await api.client.put(URL + "big", content=b"b" * 10)
            replaced.set()

    async def receive() -> Any:
        await asyncio.sleep(60)

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": URL + "big", "headers": [], "query_string": b""}
    scope |= {"asgi": {"spec_version": "2.4"}, "http_version": "1.1", "scheme": "http", "server": ("x", 80)}
    await api.app(scope, receive, send)
    assert replaced.is_set()
    assert b"".join(message.get("body", b"") for message in messages) == b"a" * 150_000
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            "/",
            "%2F",
            "//a",
            "a//b",
            "a%2F%2Fb",
            "a/",
            "%2e",
            "%2e%2e",
            "a/%2e%2e/b",
            "a%2F..%2Fb",
            "a%5Cb",
            "a%00b",
        ),
        *("talks%2Fone.flac%0A", "%7F", ".incoming/x"),
    ],
)
async def test_hostile_paths(api: Facade, path: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        content = b"x" if method == "PUT" else None
        assert_error(await api.client.request(method, URL + path, content=content), 400)
    assert staged(api) == {"talks/one.flac"}


async def test_links_that_lead_out(api: Facade, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (api.settings.files / "out").symlink_to(tmp_path)
    for method in ("GET", "PUT", "DELETE"):
        assert_error(await api.client.request(method, URL + "out/secret"), 400, "leads out")
    assert (tmp_path / "secret").read_text() == "secret"
    assert [file["path"] for file in (await api.client.get("/v1/files")).json()["files"]] == ["talks/one.flac"]


async def test_an_encoded_slash_is_a_slash(api: Facade) -> None:
    assert (await api.client.get(URL + "talks%2Fone.flac")).content == b"staged"


@pytest.mark.parametrize(("path", "words"), [("talks", "is a folder"), ("talks/one.flac/x", "is a file")])
async def test_places_where_no_file_can_be_put(api: Facade, path: str, words: str) -> None:
    assert_error(await api.client.put(URL + path, content=b"x"), 400, words)


async def test_the_cap(api: Facade) -> None:
    assert (await api.client.put(URL + "most", content=b"x" * CAP)).status_code == 201
    assert_error(await api.client.put(URL + "more", content=b"x" * (CAP + 1)), 413, str(CAP), param=None)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * (CAP // 4)

    assert_error(await api.client.put(URL + "more", content=chunks()), 413, str(CAP), param=None)
    assert staged(api) == {"talks/one.flac", "most"}


async def test_a_part_of_a_file_is_not_taken_for_all_of_it(api: Facade) -> None:
    response = await api.client.put(URL + "talks/one.flac", content=b"x", headers={"Content-Range": "bytes 6-6/7"})
    assert_error(response, 400, "Content-Range", param=None)
    assert (await api.client.get(URL + "talks/one.flac")).content == b"staged"


async def test_other_methods(api: Facade) -> None:
    for method, path in (("POST", "talks/one.flac"), ("PATCH", "talks/one.flac")):
        assert (await api.client.request(method, URL + path)).status_code == 405
    assert (await api.client.delete("/v1/files")).status_code == 405


async def test_the_document_tells_of_the_routes(api: Facade) -> None:
    paths = (await api.client.get("/openapi.json")).json()["paths"]
    assert set(paths["/v1/files/{path}"]) == {"get", "put", "delete"}
    for operation in paths["/v1/files/{path}"].values():
        assert [parameter["name"] for parameter in operation["parameters"]] == ["path"]
        assert "400" in operation["responses"]
    assert set(paths["/v1/files/{path}"]["put"]["responses"]) >= {"200", "201", "413"}
