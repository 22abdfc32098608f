"""Every error talkies answers with, in one tree; the HTTP status sits on the class.

TalkiesError 500
├── BadRequest 400          EngineFailed 500
├── Unauthorized 401
├── NotFound 404            ModelNotFound 404
├── RequestTimeout 408
├── TooLarge 413            RangeNotSatisfiable 416
├── Unavailable 503         EngineDied 503, NotLoaded 503
├── ModelUnavailable 503    Overloaded 503 (Retry-After)
├── TimedOut 504
└── OutOfSpace 507
StartupError: ends the process with one sentence, never answered over HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, TypeVar


class TalkiesError(Exception):
    """An answer: `message` says what is wrong and the way out; `param` is the request field at fault."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    headers: Mapping[str, str] = {}

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class BadRequest(TalkiesError):
    status = 400
    type = "invalid_request_error"


class Unauthorized(TalkiesError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}

    def __init__(self) -> None:
        super().__init__("This server needs `Authorization: Bearer TOKEN` with one of its tokens.")


class Forbidden(TalkiesError):
    status = 403
    type = "invalid_request_error"
    code = "insufficient_permissions"

    def __init__(self, name: str, scope: str) -> None:
        super().__init__(f"The token {name!r} lacks the scope {scope!r}; ask the server's owner for one that has it.")


class RateLimited(TalkiesError):
    status = 429
    type = "requests"
    code = "rate_limit_exceeded"

    def __init__(self, name: str, limit: int, wait: float) -> None:
        super().__init__(f"The token {name!r} may send {limit} requests a minute; try again in {wait:.0f} s.")
        self.headers = {"Retry-After": str(max(1, math.ceil(wait)))}


class QuotaExceeded(TalkiesError):
    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"

    def __init__(self, name: str, seconds: float, wait: float) -> None:
        super().__init__(f"The token {name!r} has used its {seconds:g} seconds of audio for today (UTC).")
        # Clients would try for hours.
        self.headers = {"Retry-After": str(max(1, math.ceil(wait))), "x-should-retry": "false"}


class NotFound(TalkiesError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class RequestTimeout(TalkiesError):
    """The client has not sent all of its request."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"

    def __init__(self) -> None:
        super().__init__("The request did not come in time; send it again, faster.")


class TooLarge(TalkiesError):
    status = 413
    type = "invalid_request_error"
    code = "file_too_large"


class RangeNotSatisfiable(TalkiesError):
    status = 416
    type = "invalid_request_error"
    code = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has no such bytes; it has {size} of them.")
        self.headers = {"Content-Range": f"bytes */{size}"}


class EngineFailed(TalkiesError):
    """A model failed in a way that its caller cannot mend; the same request would fail again."""

    code = "engine_failed"
    headers: Mapping[str, str] = {"x-should-retry": "false"}

    def __init__(self, message: str, *, param: str | None = None, model: str = "") -> None:
        """`model` is the Triton model that failed, empty where only the request's can be meant."""
        super().__init__(message, param=param)
        self.model = model


class Unavailable(TalkiesError):
    """Not now: no tritonserver, or it died under the request. Work that may be tried again is, once."""

    status = 503
    code = "unavailable"
    headers: Mapping[str, str] = {"Retry-After": "5"}
    again = True
    """Whether another try at once may do; False when the wait for it has already been."""


class EngineDied(Unavailable):
    """A model's process is dead although Triton calls it ready; unload and load repair it."""

    code = "engine_died"

    def __init__(self, message: str, *, param: str | None = None, model: str = "") -> None:
        """`model` is the Triton model whose process it was, empty where only the request's can be meant."""
        super().__init__(message, param=param)
        self.model = model


class EngineStarved(Unavailable):
    """A model's process has too little memory, descriptors or room for the request."""

    def __init__(self, message: str, *, param: str | None = None, model: str = "") -> None:
        """`model` is the Triton model whose process it is, empty where only the request's can be meant."""
        super().__init__(message, param=param)
        self.model = model


class NotLoaded(Unavailable):
    """The model is not loaded (any more)."""

    code = "not_loaded"


class ModelUnavailable(TalkiesError):
    """The model cannot be loaded: weights or environment missing, wrong device, failed or timed-out load."""

    status = 503
    code = "model_unavailable"
    headers: Mapping[str, str] = {"x-should-retry": "false"}


class LoadTimedOut(ModelUnavailable):
    """Triton is still loading the model."""


class Overloaded(TalkiesError):
    """The model's queue is full."""

    status = 503
    code = "overloaded"
    headers: Mapping[str, str] = {"Retry-After": "2"}


class TimedOut(TalkiesError):
    status = 504
    code = "timeout"
    headers: Mapping[str, str] = {"x-should-retry": "false"}


class OutOfSpace(TalkiesError):
    status = 507
    code = "out_of_space"
    headers: Mapping[str, str] = {"x-should-retry": "false"}


Choice = TypeVar("Choice")


def choose(choices: Mapping[str, Choice], name: str, param: str) -> Choice:
    """The choice of that name, in any case. Raises BadRequest, which lists them."""
    try:
        return choices[name.lower()]
    except KeyError:
        raise BadRequest(f"Unknown {param} {name!r}; choose one of {', '.join(choices)}.", param=param) from None


class StartupError(Exception):
    """talkies cannot start or a command cannot run; the message is the one sentence that the person sees."""
