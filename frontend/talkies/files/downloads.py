"""Files behind URLs, fetched once into the staging area.

A download connects to the very address that the guard has checked, at every redirect anew. Messages name the host and
never the URL, which may hold secrets.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import httpx

from talkies import __version__
from talkies.errors import BadRequest, NotFound
from talkies.files.addresses import is_allowed
from talkies.files.staging import Staging
from talkies.settings import Settings

_FOLDER = "downloads"
_MAX_REDIRECTS = 5
_MAX_ADDRESSES = 4
"""Addresses of one host that are tried."""
_RESOLVERS = 4
"""Names that are looked up at the same time."""
_MAX_NAME_BYTES = 150
_MAX_SUFFIX = 10
_PIECE = 1 << 18
_CONNECT = 10.0
"""Seconds, for the name and for each address."""
_TIMEOUT = httpx.Timeout(_CONNECT, read=300)
_HEADERS = {
    # A compressed answer could unpack to any size.
    "Accept-Encoding": "identity",
    "User-Agent": f"talkies/{__version__}",
}

Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[Path]
    waiting: int = 0


class Downloads:
    """Fetches URLs into `downloads/` of the staging area and finds them there the next time."""

    def __init__(
        self,
        settings: Settings,
        staging: Staging,
        *,
        resolve: Resolve | None = None,
        certificates: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._staging = staging
        # Threads of their own: names whose server is silent must not hold those that write uploads.
        self._resolvers = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolve")
        self._resolve = resolve or self._look_up
        self._certificates = certificates or httpx.create_ssl_context()
        self._flights: dict[str, _Flight] = {}
        self._tasks: set[asyncio.Task[Path]] = set()

    async def fetch(self, url: str) -> Path:
        """The file behind `url`; requests for the same URL at the same time share one download.

        Raises BadRequest, with the reason, when it cannot be fetched; nothing is left of it then.
        """
        key = cache_key(url)
        flight = self._flights.get(key)
        if flight is None:
            task = asyncio.create_task(self._obtain(url, key), name=f"download {key}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            flight = self._flights[key] = _Flight(task)
            task.add_done_callback(lambda _: self._landed(key, flight))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                self._landed(key, flight)
                flight.task.cancel()

    def _landed(self, key: str, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _obtain(self, url: str, key: str) -> Path:
        path = f"{_FOLDER}/{key}"
        try:
            return await asyncio.to_thread(self._staging.find, path)
        except NotFound:
            pass
        limit = self._settings.request_timeout
        try:
            async with asyncio.timeout(limit), self._open(_parse(url)) as response:
                await self._staging.save(path, self._content(response))
        except TimeoutError:
            raise _refused(f"the download took longer than {limit:g} s") from None
        return await asyncio.to_thread(self._staging.find, path)

    @asynccontextmanager
    async def _open(self, url: httpx.URL) -> AsyncIterator[httpx.Response]:
        """The answer that holds the file, redirects followed; its body is yet to be read."""
        for _ in range(_MAX_REDIRECTS + 1):
            async with self._get(url) as response:
                if not response.has_redirect_location:
                    self._check(url, response)
                    yield response
                    return
                url = _redirected(url, response)
        raise _refused(f"more than {_MAX_REDIRECTS} redirects")

    @asynccontextmanager
    async def _get(self, url: httpx.URL) -> AsyncIterator[httpx.Response]:
        """One request; what fails while the context lasts is a BadRequest that names the host."""
        host = _host(url)
        addresses = await self._addresses(url)
        try:
            # A client of its own: for a shared one all hosts at an address would be the same, cookies included.
            async with httpx.AsyncClient(
                verify=self._certificates, trust_env=False, headers=_HEADERS, timeout=_TIMEOUT
            ) as client:
                response = await _connect(client, url, addresses)
                try:
                    yield response
                finally:
                    await response.aclose()
        except httpx.TimeoutException:
            raise _refused(f"{host} did not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _refused(f"{host}: {_reason(error)}") from None

    async def _look_up(self, host: str, port: int) -> list[str]:
        """The numeric addresses of a host, in the order to try them. Raises OSError, UnicodeError."""
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            found = ask(flags=socket.AI_NUMERICHOST)  # a number need not stand in line behind names
        except socket.gaierror:
            found = await asyncio.get_running_loop().run_in_executor(self._resolvers, ask)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    async def _addresses(self, url: httpx.URL) -> list[str]:
        """The numeric addresses to connect to, all of them checked."""
        host = _host(url)
        try:
            async with asyncio.timeout(_CONNECT):
                found = await self._resolve(host, url.port or 0)
        except (OSError, ValueError):  # TimeoutError too; the latter for names that cannot be one
            raise _refused(f"the name {host} cannot be resolved") from None
        public_only = self._settings.block_private_downloads
        if not all(is_allowed(address, public_only=public_only) for address in found):
            raise _refused(f"{host} leads to an address that this server does not fetch from")
        return found[:_MAX_ADDRESSES]

    def _check(self, url: httpx.URL, response: httpx.Response) -> None:
        host = _host(url)
        if response.status_code != httpx.codes.OK:
            raise _refused(f"{host} answered {response.status_code}")
        if (encoding := response.headers.get("content-encoding", "").strip().lower()) not in ("", "identity"):
            raise _refused(f"{host} sent the file compressed ({encoding[:20]!r}), which it was asked not to")
        declared = response.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._settings.max_download_bytes:
            raise self._too_large()

    async def _content(self, response: httpx.Response) -> AsyncIterator[bytes]:
        size = 0
        async for piece in response.aiter_raw(_PIECE):
            size += len(piece)
            if size > self._settings.max_download_bytes:
                raise self._too_large()
            yield piece
        if not size:
            raise _refused("the file is empty")

    def _too_large(self) -> BadRequest:
        return _refused(f"the file is larger than {self._settings.max_download_bytes} bytes")


def cache_key(url: str) -> str:
    """The name of the URL's file in `downloads/`. Raises BadRequest for what is no URL."""
    path = _parse(url).raw_path.decode("ascii").partition("?")[0]
    name = re.sub(r"[^\w.-]+", "_", unquote(path.rstrip("/").rpartition("/")[2])) or "download"
    _, dot, suffix = name.rpartition(".")
    if len(name.encode()) > _MAX_NAME_BYTES:
        suffix = f".{suffix}" if dot and len(suffix) <= _MAX_SUFFIX else ""
        name = name.encode()[: _MAX_NAME_BYTES - len(suffix.encode())].decode(errors="ignore") + suffix
    return f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"


def _parse(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):  # the latter for text that is no UTF-8
        raise _refused("it is not a valid URL") from None
    port = 80 if parsed.port is None else parsed.port
    if parsed.scheme not in ("http", "https") or not parsed.raw_host or not 0 < port <= 65535:
        raise _refused("it is not a valid http or https URL")
    return parsed


def _redirected(url: httpx.URL, response: httpx.Response) -> httpx.URL:
    try:
        target = url.join(response.headers["location"])
    except (httpx.InvalidURL, ValueError):
        raise _refused(f"{_host(url)} redirects to what is not a valid URL") from None
    return _parse(str(target))


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii")


async def _connect(client: httpx.AsyncClient, url: httpx.URL, addresses: list[str]) -> httpx.Response:
    """The answer of the first address that takes a connection, its body not read yet. Raises httpx.HTTPError."""
    for number, address in enumerate(addresses, start=1):
        request = client.build_request(
            "GET",
            url.copy_with(host=address),
            headers={"Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": _host(url).rstrip(".")},  # the name that the certificate must have
        )
        try:
            return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if number == len(addresses):
                raise
    raise httpx.ConnectError("no address")


def _reason(error: Exception) -> str:
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not valid ({cause.verify_message.rstrip('.')})"
        if isinstance(cause, ssl.SSLError):
            return "no secure connection could be made"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectError):
        return "no connection could be made"
    return "the connection broke off, or the answer is not valid HTTP"


def _refused(reason: str) -> BadRequest:
    return BadRequest(f"file_path cannot be fetched: {reason}.", param="file_path")
