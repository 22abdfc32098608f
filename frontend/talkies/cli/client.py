"""A client of talkies' HTTP API, as the command line needs it: asynchronous, every call with a deadline."""

from __future__ import annotations

from types import TracebackType
from typing import Any, BinaryIO, ClassVar, Self
from urllib.parse import quote

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"

_CONNECT_TIMEOUT = 5.0
_LIST_TIMEOUT = 30.0
"""Seconds for calls that neither transcribe, speak nor wait for running requests."""


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

    async def transcribe(self, fields: dict[str, str], file: tuple[str, BinaryIO | bytes] | None = None) -> str:
        """The transcript of a named file, or of `fields["file_path"]`, in the form of `fields["response_format"]`."""
        files = {"file": file} if file else None
        response = await self._call("POST", "/v1/audio/transcriptions", self._timeout, data=fields, files=files)
        return response.text

    async def speak(self, body: dict[str, Any]) -> bytes:
        """The encoded speech of `body["input"]`."""
        return (await self._call("POST", "/v1/audio/speech", self._timeout, json=body)).content

    async def models(self) -> list[dict[str, Any]]:
        """The served models: `id`, `modality`, `owned_by`."""
        return await self._list("GET", "/v1/models", "data")

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
            raise Refused(f"{self._url}{path} did not answer as talkies does; is it another server?")
        return found

    async def _call(self, method: str, path: str, seconds: float, **content: Any) -> httpx.Response:
        deadline = httpx.Timeout(seconds, connect=_CONNECT_TIMEOUT)
        try:
            response = await self._http.request(method, path, timeout=deadline, **content)
        except httpx.ConnectTimeout:
            raise Unreachable(f"{self._url} did not accept a connection within {_CONNECT_TIMEOUT:.0f} s.") from None
        except httpx.TimeoutException:
            raise Refused(f"{self._url} did not answer within {seconds:g} s.") from None
        except httpx.UnsupportedProtocol:
            raise Unreachable(f"{self._url} is not a URL: it must begin with http:// or https://.") from None
        except httpx.ConnectError:
            raise Unreachable(f"Nothing answers at {self._url}; start `talkies serve` or set TALKIES_URL.") from None
        except httpx.TransportError as error:
            raise Busy(f"The connection to {self._url} broke: {error or type(error).__name__}.") from None
        if not response.is_success:
            after = response.headers.get("Retry-After", "")
            if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and after.isdecimal():
                raise Busy(_reason(response), float(after))
            raise Refused(_reason(response))
        return response


def _reason(response: httpx.Response) -> str:
    """The server's own sentence."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.url} answered {response.status_code} {response.reason_phrase}."
