"""Downloads against real servers on this machine: the guard, redirects, broken answers, and one download for many."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import hashlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from talkies.errors import BadRequest, NotFound
from talkies.files import downloads
from talkies.files.addresses import is_allowed
from talkies.files.downloads import Downloads, cache_key
from talkies.files.locate import Sources
from talkies.files.retention import Retention
from talkies.files.staging import Staging
from talkies.settings import Settings

CAP = 1_000_000
METADATA = "169.254.169.254"

# --- the guard -------------------------------------------------------------------------------------------------------

NEVER = [
    METADATA,
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "febf:ffff::1",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "::ffff:168.63.129.16",
]
PRIVATE = [
    "127.0.0.1",
    "127.255.0.1",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::1%lo",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "2002:7f00:1::1",
    "2002:c0a8:101::1",
    "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
]
PUBLIC = [
    "93.184.216.34",
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "169.253.1.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
]


@pytest.mark.parametrize("address", NEVER)
def test_link_local_addresses_and_metadata_are_never_allowed(address: str) -> None:
    assert not is_allowed(address, public_only=False)
    assert not is_allowed(address, public_only=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_a_setting(address: str) -> None:
    assert is_allowed(address, public_only=False)
    assert not is_allowed(address, public_only=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_allowed(address, public_only=True)


@given(st.ip_addresses(v=4))
def test_carriers_of_an_ipv4_address_are_no_better_than_it(address: ipaddress.IPv4Address) -> None:
    low = int(address)
    for carrier in (0xFFFF << 32 | low, 0x64FF9B << 96 | low, low, 0x2002 << 112 | low << 80):
        for public_only in (True, False):
            if is_allowed(str(ipaddress.IPv6Address(carrier)), public_only=public_only):
                assert is_allowed(str(address), public_only=public_only)


# --- a server and its names ------------------------------------------------------------------------------------------

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Web:
    """A server on 127.0.0.1; `answers` by path, every request it got in `requests`."""

    port: int = 0
    scheme: str = "http"
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str, host: str = "site.example") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
            path = first.split()[1]
            self.requests.append((path, {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}))
            await self.answers[path.partition("?")[0]](writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(web: Web, context: ssl.SSLContext | None = None) -> AsyncIterator[Web]:
    server = await asyncio.start_server(web.handle, "127.0.0.1", 0, ssl=context)
    web.port = server.sockets[0].getsockname()[1]
    web.scheme = "https" if context else "http"
    try:
        yield web
    finally:
        server.close()


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with serving(Web()) as web:
        yield web


def send(body: bytes = b"audio", status: str = "200 OK", *, length: int | None = None, **headers: str) -> Answer:
    lines = {"Content-Length": str(len(body) if length is None else length)} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }

    async def answer(writer: asyncio.StreamWriter) -> None:
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)

    return answer


def redirect(location: str, status: str = "302 Found") -> Answer:
    return send(b"", status, Location=location)


@dataclass
class Names:
    """A resolver; everything else is 127.0.0.1."""

    known: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host.endswith(".invalid"):
            raise OSError("no such name")
        return self.known.get(host, ["127.0.0.1"])


@dataclass
class Place:
    fetcher: Downloads
    staging: Staging
    names: Names
    root: Path

    async def refused(self, url: str, *words: str) -> str:
        """The message of a refusal that leaves nothing behind."""
        with pytest.raises(BadRequest) as caught:
            await self.fetcher.fetch(url)
        assert caught.value.param == "file_path"
        assert str(self.root) not in caught.value.message
        for word in words:
            assert word in caught.value.message
        assert self.left() == []
        return caught.value.message

    def left(self) -> list[str]:
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.name != ".incoming")


Make = Callable[..., Place]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(*, certificates: ssl.SSLContext | None = None, **values: Any) -> Place:
        settings = Settings(data_dir=tmp_path, **{"max_download_bytes": CAP, **values})
        settings.files.mkdir(exist_ok=True)
        staging, names = Staging(settings.files, 10), Names()
        fetcher = Downloads(settings, staging, resolve=names, certificates=certificates)
        return Place(fetcher, staging, names, settings.files)

    return make


@pytest.fixture
def place(make: Make) -> Place:
    return make()


@pytest.fixture
def guarded(make: Make, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Private addresses are blocked, less 127.0.0.1, which plays the public network."""

    def allowed(address: str, *, public_only: bool) -> bool:
        return address == "127.0.0.1" or is_allowed(address, public_only=public_only)

    monkeypatch.setattr(downloads, "is_allowed", allowed)
    return make(block_private_downloads=True)


# --- fetching --------------------------------------------------------------------------------------------------------


async def test_a_url_is_fetched_once(place: Place, web: Web) -> None:
    web.answers["/pods/ep 42.mp3".replace(" ", "%20")] = send(b"x" * 300_000)
    url = web.url("/pods/ep%2042.mp3?key=1#at")
    path = await place.fetcher.fetch(url)
    assert path.read_bytes() == b"x" * 300_000
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-ep_42.mp3"
    assert path == place.root / "downloads" / name
    assert [file.path for file in place.staging.list()] == [f"downloads/{name}"]
    assert await place.fetcher.fetch(url) == path
    ((target, headers),) = web.requests
    assert target == "/pods/ep%2042.mp3?key=1"
    assert headers["host"] == f"site.example:{web.port}"
    assert headers["accept-encoding"] == "identity"
    assert "cookie" not in headers
    assert "authorization" not in headers
    assert place.names.asked == ["site.example"]
    place.staging.delete(f"downloads/{name}")
    assert await place.fetcher.fetch(url) == path
    assert len(web.requests) == 2


async def test_sources_tell_urls_from_staged_files(place: Place, web: Web) -> None:
    web.answers["/a.wav"] = send()
    sources = Sources(place.staging, place.fetcher, Retention(place.staging, ttl=0, max_bytes=0, interval=60))
    (place.root / "http:").mkdir()
    (place.root / "http:" / "x").touch()
    assert await sources.locate("http:/x") == place.root / "http:" / "x"
    assert (await sources.locate(web.url("/a.wav").replace("http", "HTTP", 1))).read_bytes() == b"audio"
    with pytest.raises(NotFound):
        await sources.locate("nothing.wav")
    for url in ("ftp://site.example/a.wav", "file:///etc/passwd", "gopher://x/", "s3://bucket/a.wav"):
        with pytest.raises(BadRequest, match="http://") as refused:
            await sources.locate(url)
        assert refused.value.param == "file_path"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b/talk.mp3", "talk.mp3"),
        ("/a/b/?x=/c.mp3", "b"),
        ("", "download"),
        ("/", "download"),
        ("?file=x.mp3", "download"),
        ("/%2e%2e%2f%2e%2e%2fetc%2fpasswd", ".._.._etc_passwd"),
        ("/..%5c..%5cx", ".._.._x"),
        ("/a%00b%0d%0ac.wav", "a_b_c.wav"),
        ("/Gespr%C3%A4ch.wav", "Gespräch.wav"),
        ("/%ff%fe.wav", "_.wav"),
        ("/a%25b%3Fc%23d.wav", "a_b_c_d.wav"),
        ("/%2e", "."),
        ("/" + "x" * 5000 + ".mp3", "x" * 146 + ".mp3"),
        ("/" + "%C3%A4" * 500, "ä" * 75),
        ("/x." + "y" * 500, "x." + "y" * 148),
    ],
)
def test_names_of_cached_files(path: str, name: str) -> None:
    url = f"https://site.example{path}"
    assert cache_key(url) == f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"


@given(st.text())
def test_every_url_has_a_name_that_the_api_can_spell(path: str) -> None:
    try:
        key = cache_key(f"http://site.example/{path}")
    except BadRequest:
        return
    assert len(key.encode()) <= 255
    assert "/" not in key
    with pytest.raises(NotFound):
        Staging(Path("/nowhere"), 1).find(f"downloads/{key}")


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///a.wav",
        "http://site.example:0/",
        "http://site.example:99999/",
        "http://site.example:x/",
        "http://[::1/",
        "http://site.example/\0",
        "http://\udc80/",
        "http://xn--\u00e4/",
        "http://" + "x" * 70_000,
    ],
)
async def test_urls_that_are_none(place: Place, url: str) -> None:
    await place.refused(url, "not a valid")
    assert place.names.asked == []


@pytest.mark.parametrize(
    "host", ["a..example", "x" * 64 + ".example", "[fe80::1%25lo]", "[fe80::1%lo]", "a b", "no.invalid"]
)
async def test_names_that_do_not_resolve(tmp_path: Path, host: str) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.files.mkdir()
    staging = Staging(settings.files, 10)
    place = Place(Downloads(settings, staging), staging, Names(), settings.files)
    await place.refused(f"http://{host}/a.wav")


# --- redirects -------------------------------------------------------------------------------------------------------


async def test_five_redirects_and_no_more(place: Place, web: Web) -> None:
    kinds = ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    for hop in range(6):
        web.answers[f"/{hop}"] = redirect(f"/{hop + 1}", kinds[hop % 5])
    web.answers["/6"] = send(b"there")
    url = web.url("/1")
    path = await place.fetcher.fetch(url)
    assert path.read_bytes() == b"there"
    assert path.name == cache_key(url)
    place.staging.delete(f"downloads/{path.name}")
    assert web.paths == ["/1", "/2", "/3", "/4", "/5", "/6"]
    await place.refused(web.url("/0"), "more than 5 redirects")
    assert web.paths[6:] == ["/0", "/1", "/2", "/3", "/4", "/5"]


@pytest.mark.parametrize("location", ["ftp://site.example/", "file:///etc/passwd", "http://[::1", "javascript:x"])
async def test_redirects_to_what_is_not_fetched(place: Place, web: Web, location: str) -> None:
    web.answers["/"] = redirect(location)
    await place.refused(web.url("/"), "not")
    assert place.names.asked == ["site.example"]


@pytest.mark.parametrize("status", ["300 Multiple Choices", "304 Not Modified", "302 Found"])
async def test_redirects_to_nowhere(place: Place, web: Web, status: str) -> None:
    web.answers["/"] = send(b"", status)
    await place.refused(web.url("/"), f"answered {status[:3]}")


@pytest.mark.parametrize("address", ["10.0.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.2", METADATA, "fd00:ec2::254"])
async def test_the_guard_holds_at_every_redirect(guarded: Place, web: Web, address: str) -> None:
    guarded.names.known["inside.example"] = [address]
    for url in (web.url("/x", "inside.example"), f"//inside.example:{web.port}/x"):
        web.answers |= {"/": redirect("/again"), "/again": redirect(url), "/x": send()}
        message = await guarded.refused(web.url("/"), "does not fetch from", "inside.example")
        assert address not in message
    assert web.paths == ["/", "/again"] * 2


async def test_one_refused_address_of_a_name_is_enough(guarded: Place, web: Web) -> None:
    web.answers["/"] = send()
    guarded.names.known["mixed.example"] = ["127.0.0.1", "10.0.0.1"]
    await guarded.refused(web.url("/", "mixed.example"), "does not fetch from")
    assert web.requests == []


async def test_the_address_that_was_checked_is_connected_to(guarded: Place, web: Web) -> None:
    """A name that changes its address after the check gains nothing: it is asked for once."""
    answers = iter([["127.0.0.1"], [METADATA]])

    async def rebinding(host: str, port: int) -> list[str]:
        return next(answers)

    guarded.fetcher._resolve = rebinding
    web.answers["/"] = send()
    await guarded.fetcher.fetch(web.url("/", "rebinding.example"))
    assert web.requests[0][1]["host"] == f"rebinding.example:{web.port}"
    assert len(list(answers)) == 1


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.1", "127.0.0.1", "127.0.0.1."),
        *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "localhost", "LOCALHOST", "localhost.", "0", "0.0.0.0"),
        *("[::]", "①②⑦.⓪.⓪.①", "127。0。0。1", "user:pass@127.0.0.1", "127.0.0.1%00.example", "a%2eb@127.0.0.1"),
    ],
)
async def test_every_spelling_of_this_machine_is_refused(tmp_path: Path, web: Web, host: str) -> None:
    """With the real resolver, which knows them all."""
    web.answers["/"] = send()
    settings = Settings(data_dir=tmp_path, block_private_downloads=True)
    settings.files.mkdir()
    staging = Staging(settings.files, 10)
    place = Place(Downloads(settings, staging), staging, Names(), settings.files)
    await place.refused(web.url("/", host))
    assert web.requests == []


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "0xa9.254.169.254", "169.16689662", "[::ffff:a9fe:a9fe]"])
async def test_every_spelling_of_the_metadata_address_is_refused_by_default(tmp_path: Path, host: str) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.files.mkdir()
    staging = Staging(settings.files, 10)
    place = Place(Downloads(settings, staging), staging, Names(), settings.files)
    await place.refused(f"http://{host}/latest/meta-data/", "does not fetch from")


async def test_the_next_address_is_tried(place: Place, web: Web) -> None:
    web.answers["/"] = send(b"there")
    place.names.known["two.example"] = ["127.0.0.9", "127.0.0.1"]  # the server listens on one of them
    assert (await place.fetcher.fetch(web.url("/", "two.example"))).read_bytes() == b"there"


# --- secrets ---------------------------------------------------------------------------------------------------------


async def test_credentials_go_to_their_own_host_only(place: Place, web: Web) -> None:
    async with serving(Web()) as other:
        web.answers |= {"/": redirect("/same"), "/same": redirect(other.url("/there", "other.example"))}
        other.answers["/there"] = send()
        await place.fetcher.fetch(web.url("/", "user:p%40ss@site.example"))
        assert [h.get("authorization") for _, h in web.requests] == ["Basic dXNlcjpwQHNz"] * 2
        assert all("authorization" not in h and "referer" not in h for _, h in other.requests)
        assert len(other.requests) == 1


async def test_cookies_do_not_travel(place: Place, web: Web) -> None:
    web.answers["/"] = send(b"", "302 Found", Location=web.url("/there", "other.example"), Set_Cookie="session=1")
    web.answers["/there"] = send()
    await place.fetcher.fetch(web.url("/"))
    assert all("cookie" not in headers for _, headers in web.requests)


async def test_messages_hold_no_secrets(place: Place, web: Web) -> None:
    web.answers["/hidden"] = send(b"", "403 Forbidden")
    web.answers["/away"] = redirect("http://u:passw0rd@no.invalid/hidden?sig=s3cret")
    secrets = "user:passw0rd@site.example"
    for url in (
        web.url("/hidden?sig=s3cret#s3cret", secrets),
        web.url("/away?sig=s3cret", secrets),
        "http://user:passw0rd@no.invalid/hidden?sig=s3cret",
        "http://user:passw0rd@site.example:1/hidden?sig=s3cret",
        "http://user:passw0rd@site.example:99999/hidden?sig=s3cret",
    ):
        message = await place.refused(url)
        assert not any(secret in message for secret in ("passw0rd", "s3cret", "hidden"))


async def test_no_proxy_is_asked(make: Make, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Web()) as proxy:
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        web.answers["/"] = send(b"direct")
        assert (await make().fetcher.fetch(web.url("/"))).read_bytes() == b"direct"
        assert proxy.requests == []


# --- broken answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status", ["404 Not Found", "401 Unauthorized", "500 Oops", "204 No Content", "206 Partial Content"]
)
async def test_other_answers_than_200(place: Place, web: Web, status: str) -> None:
    web.answers["/"] = send(b"", status)
    await place.refused(web.url("/"), f"site.example answered {status[:3]}")


async def test_an_empty_file(place: Place, web: Web) -> None:
    web.answers["/"] = send(b"")
    await place.refused(web.url("/"), "empty")


async def test_the_cap(place: Place, web: Web) -> None:
    web.answers["/most"] = send(b"x" * CAP)
    path = await place.fetcher.fetch(web.url("/most"))
    assert path.stat().st_size == CAP  # the cap of uploads is another one
    place.staging.delete(f"downloads/{path.name}")
    web.answers["/declared"] = send(b"x", length=CAP + 1)
    await place.refused(web.url("/declared"), f"larger than {CAP} bytes")
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while sent < 100 * CAP:
            writer.write(b"x" * 100_000)
            sent += 100_000
            await writer.drain()

    web.answers["/endless"] = endless
    await place.refused(web.url("/endless"), f"larger than {CAP} bytes")
    assert sent < 50 * CAP


async def test_a_content_length_that_lies(place: Place, web: Web) -> None:
    web.answers["/short"] = send(b"x" * 1000, length=2000)
    await place.refused(web.url("/short"), "broke off")
    web.answers["/long"] = send(b"x" * 1000, length=10)
    assert (await place.fetcher.fetch(web.url("/long"))).read_bytes() == b"x" * 10


async def test_broken_connections(place: Place, web: Web) -> None:
    async def reset(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000)
        await writer.drain()
        writer.transport.abort()

    async def cut_chunk(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\naudio\r\nff\r\nx")

    async def nothing(writer: asyncio.StreamWriter) -> None:
        pass

    async def nonsense(writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")

    web.answers |= {"/reset": reset, "/chunk": cut_chunk, "/nothing": nothing, "/nonsense": nonsense}
    for path in web.answers:
        await place.refused(web.url(path), "site.example", "broke off")
    await place.refused("http://site.example:1/", "no connection could be made")


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "zstd, gzip"])
async def test_compressed_answers_are_refused(place: Place, web: Web, encoding: str) -> None:
    web.answers["/"] = send(gzip.compress(bytes(10_000_000)), Content_Encoding=encoding)
    await place.refused(web.url("/"), "compressed")


async def test_identity_is_no_compression(place: Place, web: Web) -> None:
    web.answers["/"] = send(b"plain", Content_Encoding="identity")
    assert (await place.fetcher.fetch(web.url("/"))).read_bytes() == b"plain"


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome"])
async def test_a_silent_server(place: Place, web: Web, monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    monkeypatch.setattr(downloads, "_TIMEOUT", httpx.Timeout(0.2))

    async def silent(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        await asyncio.sleep(2)

    web.answers["/"] = silent
    await place.refused(web.url("/"), "site.example did not answer in time")


async def test_the_deadline_of_a_dripping_server(make: Make, web: Web) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for _ in range(100):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    web.answers["/"] = drip
    await make(request_timeout=0.3).refused(web.url("/"), "longer than 0.3 s")


async def test_a_resolver_that_hangs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(host: str, port: int) -> list[str]:
        await asyncio.sleep(10)
        return []

    monkeypatch.setattr(downloads, "_CONNECT", 0.1)
    place.fetcher._resolve = hang
    await place.refused("http://site.example/", "cannot be resolved")


# --- certificates ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate of site.example, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("site.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return server, ssl.create_default_context(cafile=str(folder / "cert.pem"))


async def test_https(make: Make, certified: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, client = certified
    names: list[str | None] = []
    server.sni_callback = lambda _, name, __: names.append(name)
    trusting, doubting = make(certificates=client), make()
    async with serving(Web(), server) as web:
        web.answers["/"] = send(b"secure")
        await trusting.refused(web.url("/", "other.example"), "other.example", "certificate", "mismatch")
        await trusting.refused(web.url("/", "127.0.0.1"), "certificate")
        await doubting.refused(web.url("/"), "certificate is not valid", "self-signed")
        assert web.requests == []
        assert (await trusting.fetcher.fetch(web.url("/"))).read_bytes() == b"secure"
        assert web.requests[0][1]["host"] == f"site.example:{web.port}"
        assert names[0] == "other.example"
        assert names[-1] == "site.example"


async def test_https_to_a_server_without_it(place: Place) -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        await place.refused(f"https://site.example:{server.sockets[0].getsockname()[1]}/", "no secure connection")


# --- many at the same time -------------------------------------------------------------------------------------------


def held(go: asyncio.Event, started: asyncio.Event) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        await writer.drain()
        started.set()
        await go.wait()
        writer.write(b"after")

    return answer


async def test_one_download_for_all_who_ask(place: Place, web: Web) -> None:
    go, started = asyncio.Event(), asyncio.Event()
    web.answers |= {"/a": held(go, started), "/b": send()}
    waiting = [asyncio.create_task(place.fetcher.fetch(web.url("/a"))) for _ in range(5)]
    await started.wait()
    assert (await place.fetcher.fetch(web.url("/b"))).read_bytes() == b"audio"
    waiting[0].cancel()  # who began it hangs up
    waiting[3].cancel()
    late = asyncio.create_task(place.fetcher.fetch(web.url("/a")))
    await asyncio.sleep(0.05)
    go.set()
    results = await asyncio.gather(*waiting, late, return_exceptions=True)
    assert [type(r) for r in (results[0], results[3])] == [asyncio.CancelledError] * 2
    assert {r.read_bytes() for n, r in enumerate(results) if n not in (0, 3) and isinstance(r, Path)} == {b"firstafter"}
    assert web.paths == ["/a", "/b"]
    assert not place.fetcher._flights


async def test_a_failure_is_everyones_and_the_next_one_tries_again(place: Place, web: Web) -> None:
    go, started = asyncio.Event(), asyncio.Event()

    async def fail(writer: asyncio.StreamWriter) -> None:
        started.set()
        await go.wait()
        await send(b"", "503 Busy")(writer)

    web.answers["/a"] = fail
    waiting = [asyncio.create_task(place.fetcher.fetch(web.url("/a"))) for _ in range(3)]
    await started.wait()
    go.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [BadRequest] * 3
    assert web.paths == ["/a"]
    web.answers["/a"] = send(b"better")
    assert (await place.fetcher.fetch(web.url("/a"))).read_bytes() == b"better"


async def test_a_download_that_nobody_waits_for_ends(place: Place, web: Web) -> None:
    go, started = asyncio.Event(), asyncio.Event()
    web.answers["/a"] = held(go, started)
    waiting = [asyncio.create_task(place.fetcher.fetch(web.url("/a"))) for _ in range(2)]
    await started.wait()
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    web.answers["/a"] = send(b"anew")
    assert (await place.fetcher.fetch(web.url("/a"))).read_bytes() == b"anew"  # not a place in the one that ends
    await asyncio.wait_for(asyncio.gather(*place.fetcher._tasks, return_exceptions=True), 5)
    assert len(place.left()) == 2  # the folder and the file
    go.set()


async def test_silent_name_servers_hold_nobody_else(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    really = socket.getaddrinfo
    waiting: list[str] = []

    def look_up(host: str, port: int, *, type: int, flags: int = 0) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return really(host, port, type=type, flags=flags)
        waiting.append(host)
        go.wait(10)
        raise socket.gaierror("silent")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    fetcher = Downloads(Settings(data_dir=place.root), place.staging)  # with names that are looked up
    asked = [asyncio.create_task(fetcher.fetch(f"http://silent{number}.example/")) for number in range(40)]
    try:
        async with asyncio.timeout(5):
            await asyncio.sleep(0.1)
            assert await asyncio.to_thread(len, "four") == 4
            for host in ("169.254.169.254", "2852039166", "[fe80::1]"):  # numbers are nobody's to look up
                with pytest.raises(BadRequest, match="does not fetch from"):
                    await fetcher.fetch(f"http://{host}/")
        assert 0 < len(waiting) < 40
    finally:
        go.set()
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
