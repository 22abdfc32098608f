"""Every error talkies answers with, in one tree; the HTTP status sits on the class.

TalkiesError 500
├── BadRequest 400          EngineFailed 500
├── Unauthorized 401
├── NotFound 404            ModelNotFound 404
├── TooLarge 413            RangeNotSatisfiable 416
├── Unavailable 503         EngineDied 503, NotLoaded 503
├── ModelUnavailable 503    Overloaded 503 (Retry-After)
├── TimedOut 504
└── OutOfSpace 507
StartupError: ends the process with one sentence, never answered over HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


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

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer: `detail`, and the `error` object that OpenAI's clients read."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"detail": self.message, "error": error}


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


class NotFound(TalkiesError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


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


class Unavailable(TalkiesError):
    """Not now: no tritonserver, or it died under the request. Work that may be tried again is, once."""

    status = 503
    code = "unavailable"
    headers: Mapping[str, str] = {"Retry-After": "5"}


class EngineDied(Unavailable):
    """The model's process is dead although Triton calls it ready; unload and load repair it."""

    code = "engine_died"


class NotLoaded(Unavailable):
    """The model is not loaded (any more)."""

    code = "not_loaded"


class ModelUnavailable(TalkiesError):
    """The model cannot be loaded: weights or environment missing, wrong device, failed or timed-out load."""

    status = 503
    code = "model_unavailable"
    headers: Mapping[str, str] = {"x-should-retry": "false"}


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


class StartupError(Exception):
    """talkies cannot start or a command cannot run; the message is the one sentence that the person sees."""
