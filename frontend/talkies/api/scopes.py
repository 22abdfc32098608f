"""What a token must be allowed to do, by route."""

from __future__ import annotations

import re
from typing import Any

from talkies.errors import Forbidden
from talkies.tokens import Permission, Token

_ANY = ""
"""A valid token is enough."""

TABLE: list[tuple[str, str, Permission | str]] = [
    ("POST", r"/v1/audio/(transcriptions|translations)", "transcribe"),
    ("POST", r"/v1/audio/speech", "speak"),
    (r"\w+", r"/v1/files(/.*)?", "files"),
    ("DELETE", r"/api/ps/.*", "admin"),
    ("POST", r"/unload", "admin"),
    ("GET|HEAD", r"/metrics", "admin"),
    ("GET|HEAD", r"/api/ps|/v1/models(/.*)?|/v1/audio/(voices|models)", _ANY),
    (r"\w+", r"/v1/mcp", _ANY),  # each tool has its own
    ("GET|HEAD", r"/|/docs(/oauth2-redirect)?|/redoc|/openapi\.json", _ANY),
    (r"\w+", r"/static-offline-docs(/.*)?", _ANY),
]
"""Methods and paths, as regular expressions. What is none of them is no route, and no token opens it."""
_COMPILED = [(re.compile(method), re.compile(path, re.DOTALL), scope) for method, path, scope in TABLE]


def needed(method: str, path: str) -> str | None:
    """The scope that a request needs, "" for any token, None where there is no such route."""
    for methods, paths, scope in _COMPILED:
        if methods.fullmatch(method) and paths.fullmatch(path):
            return scope
    return None


def require(state: Any, scope: Permission) -> None:
    """For what the route cannot tell: a tool, a staged file that a form names. `state` is a request's.

    Raises Forbidden unless its token may, or nobody needs one.
    """
    token: Token | None = getattr(state, "token", None)
    if token and scope not in token.scopes:
        raise Forbidden(token.name, scope)
