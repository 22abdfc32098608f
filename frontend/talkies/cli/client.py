"""A client of talkies' HTTP API, as the command line needs it: asynchronous, every call with a deadline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, BinaryIO, ClassVar, Self
from urllib.parse import quote

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"

_CONNECT_TIMEOUT = 5.0
_LIST_TIMEOUT = 30.0
"""Seconds for calls that neither transcribe, speak nor wait for running requests."""


_BLOCK = 1 << 20

Watch = Callable[[Mapping[str, Any]], None]
"""Is given the events of a transcription as they come; docs/http-api.md has them."""


@dataclass(frozen=True, slots=True)
class Transcription:
    """What to ask of a file: the form's text fields; a list is a field that is sent several times."""

    fields: Mapping[str, str | list[str]]
    translate: bool = False

    @property
    def path(self) -> str:
        return f"/v1/audio/{'translations' if self.translate else 'transcriptions'}"

    def watched(self) -> Transcription:
        """The same with events on the way."""
        return replace(self, fields={**self.fields, "stream": "true", "include[]": "progress"})

    def of(self, file_path: str) -> Transcription:
        """The same of a file that the server has or fetches."""
        return replace(self, fields={**self.fields, "file_path": file_path})


class ClientError(Exception):
    """A call that has no result; the message is one sentence, `exit_code` what a command ends with."""

    exit_code: ClassVar[int]


class Refused(ClientError):
    """The server answered with an error."""

    exit_code = 1


class Busy(Refused):
    """The same request may succeed later: the server is overloaded or the connection broke.

    `after`: the seconds that the server wants to be left alone, 0 when it did not say.
    """

    def __init__(self, message: str, after: float = 0) -> None:
        super().__init__(message)
        self.after = after


class Unreachable(ClientError):
    """There is no answer from a server at that address."""

    exit_code = 2


class Client:
    """The server at `url`, with or without a trailing /v1. Methods raise Refused and Unreachable.

    `timeout`: seconds that a transcription, a speech or an unload may take, waiting in the server's queue included.
    """

    def __init__(
        self, url: str, token: str = "", *, timeout: float = 3600, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._timeout = timeout
        self._url = url.rstrip("/").removesuffix("/v1")
        try:
            self._http = httpx.AsyncClient(
                base_url=self._url,
                headers={"Authorization": f"Bearer {token}"} if token else None,
                transport=transport,
            )
        except httpx.InvalidURL as error:
            raise Unreachable(f"{url} is not a URL: {error}.") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def transcribe(
        self, request: Transcription, file: tuple[str, BinaryIO | bytes] | None = None, watch: Watch | None = None
    ) -> str:
        """The transcript of a named file, or of the field `file_path`, in the form of the field `response_format`.

        `watch` gets what the server tells on the way, which of a translation is nothing.
        """
        files = {"file": file} if file else None
        if watch and not request.translate:
            return await self._watched(request, files, watch)
        response = await self._call("POST", request.path, self._timeout, data=request.fields, files=files)
        return response.text

    async def _watched(self, request: Transcription, files: Mapping[str, Any] | None, watch: Watch) -> str:
        async with self._open("POST", request.path, data=request.watched().fields, files=files) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                return (await response.aread()).decode()
            answer: str | None = None
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                event = json.loads(line.removeprefix("data: "))
                if event["type"] == "error":
                    raise Refused(event["error"]["message"])
                if event["type"] == "transcript.answer":
                    answer = event["content"]
                watch(event)
        if answer is None:
            raise self._other_server(request.path)
        return answer

    async def speak(self, body: dict[str, Any]) -> bytes:
        """The encoded speech of `body["input"]`."""
        return (await self._call("POST", "/v1/audio/speech", self._timeout, json=body)).content

    async def stream_speech(self, body: dict[str, Any], sink: BinaryIO) -> None:
        """As `speak`, into `sink` as it is made."""
        async with self._open("POST", "/v1/audio/speech", json={**body, "stream_format": "audio"}) as response:
            async for piece in response.aiter_bytes():
                sink.write(piece)
                sink.flush()

    async def models(self) -> list[dict[str, Any]]:
        """The served models: `id`, `modality`, `owned_by`, `available`."""
        return await self._list("GET", "/v1/models", "data")

    async def model(self, name: str) -> dict[str, Any]:
        """The one that a slug or a name of OpenAI's stands for."""
        found: dict[str, Any] = (await self._call("GET", f"/v1/models/{quote(name, safe='')}", _LIST_TIMEOUT)).json()
        return found

    async def files(self) -> list[dict[str, Any]]:
        """The staged files: `path`, `size`, `modified`."""
        return await self._list("GET", "/v1/files", "files")

    async def put_file(self, path: str, content: BinaryIO) -> None:
        """Stage a file; one of the same path is replaced."""
        await self._call("PUT", f"/v1/files/{quote(path)}", self._timeout, content=_blocks(content))

    async def get_file(self, path: str, sink: BinaryIO) -> None:
        """Write a staged file into `sink`."""
        async with self._open("GET", f"/v1/files/{quote(path)}") as response:
            async for piece in response.aiter_bytes():
                sink.write(piece)

    async def remove_file(self, path: str) -> None:
        await self._call("DELETE", f"/v1/files/{quote(path)}", _LIST_TIMEOUT)

    async def voices(self) -> list[dict[str, Any]]:
        """The voices of all TTS models: `voice`, `model`, `default`."""
        return await self._list("GET", "/v1/audio/voices", "voices")

    async def ps(self) -> list[dict[str, Any]]:
        """The loaded models: `model`, `modality`, `idle_seconds`, `active_requests`."""
        return await self._list("GET", "/api/ps", "models")

    async def unload(self, slug: str = "") -> list[str]:
        """Unload one model, or all, once their running requests are done; the slugs that were loaded."""
        method, path = ("DELETE", f"/api/ps/{quote(slug, safe='')}") if slug else ("POST", "/unload")
        return await self._list(method, path, "unloaded", self._timeout)

    async def _list(self, method: str, path: str, key: str, seconds: float = _LIST_TIMEOUT) -> list[Any]:
        response = await self._call(method, path, seconds)
        try:
            found = response.json()[key]
        except (ValueError, KeyError, TypeError):
            found = None
        if not isinstance(found, list):
            raise self._other_server(path)
        return found

    def _other_server(self, path: str) -> Refused:
        return Refused(f"{self._url}{path} did not answer as talkies does; is it another server?")

    @asynccontextmanager
    async def _open(self, method: str, path: str, **content: Any) -> AsyncIterator[httpx.Response]:
        """An answer whose body is read while it comes."""
        deadline = httpx.Timeout(self._timeout, connect=_CONNECT_TIMEOUT)
        with _sentences(self._url, self._timeout):
            async with self._http.stream(method, path, timeout=deadline, **content) as response:
                if not response.is_success:
                    await response.aread()
                    raise _refusal(response)
                yield response

    async def _call(self, method: str, path: str, seconds: float, **content: Any) -> httpx.Response:
        deadline = httpx.Timeout(seconds, connect=_CONNECT_TIMEOUT)
        with _sentences(self._url, seconds):
            response = await self._http.request(method, path, timeout=deadline, **content)
        if not response.is_success:
            raise _refusal(response)
        return response


@contextmanager
def _sentences(url: str, seconds: float) -> Iterator[None]:
    """What a connection can suffer, as the sentences of this module's errors."""
    try:
        yield
    except httpx.ConnectTimeout:
        raise Unreachable(f"{url} did not accept a connection within {_CONNECT_TIMEOUT:.0f} s.") from None
    except httpx.TimeoutException:
        raise Refused(f"{url} did not answer within {seconds:g} s.") from None
    except httpx.UnsupportedProtocol:
        raise Unreachable(f"{url} is not a URL: it must begin with http:// or https://.") from None
    except httpx.ConnectError as error:
        if "SSL" in str(error):
            raise Unreachable(f"{url} answers, but not over TLS; try http://.") from None
        raise Unreachable(f"Nothing answers at {url}; start `talkies serve` or set TALKIES_URL.") from None
    except httpx.TransportError as error:
        raise Busy(f"The connection to {url} broke: {error or type(error).__name__}.") from None


def _refusal(response: httpx.Response) -> Refused:
    after = response.headers.get("Retry-After", "")
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and after.isdecimal():
        return Busy(_reason(response), float(after))
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return Refused("The server wants a token that it knows: --token, or TALKIES_AUTH_TOKEN.")
    return Refused(_reason(response))


async def _blocks(content: BinaryIO) -> AsyncIterator[bytes]:
    while block := await asyncio.to_thread(content.read, _BLOCK):
        yield block


def _reason(response: httpx.Response) -> str:
    """The server's own sentence."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.url} answered {response.status_code} {response.reason_phrase}."
