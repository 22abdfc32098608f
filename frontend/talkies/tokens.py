"""Who may call: the tokens of TALKIES_AUTH_TOKEN, which may do everything, and those of TALKIES_AUTH_FILE.

The file has only hashes. Ours are of 256 random bits, so a plain SHA-256 cannot be guessed from; and as a token is
looked up by its hash, the time that takes tells nothing about another one.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from talkies.errors import StartupError

log = structlog.get_logger("talkies.tokens")

Permission = Literal["transcribe", "speak", "files", "admin"]
PERMISSIONS: Sequence[Permission] = get_args(Permission)


class Token(BaseModel):
    """What one caller may do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    """In the log and in metrics."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: frozenset[Permission]
    requests_per_minute: Annotated[int, Field(gt=0)] | None = None
    audio_seconds_per_day: Annotated[float, Field(gt=0)] | None = None
    """Transcribed and spoken together; a day is one in UTC."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tokens: list[Token] = []


def sha256(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def load(path: Path) -> list[Token]:
    """The tokens of a file. Raises StartupError with one sentence."""
    try:
        tokens = _File.model_validate_json(path.read_bytes()).tokens
    except OSError as error:
        raise StartupError(f"TALKIES_AUTH_FILE {path}: {error.strerror}; `talkies token add` makes it.") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise StartupError(f"TALKIES_AUTH_FILE {path}: {place}: {first['msg']}.") from None
    for field in ("name", "sha256"):
        values = [getattr(token, field) for token in tokens]
        if twice := {value for value in values if values.count(value) > 1}:
            raise StartupError(f"TALKIES_AUTH_FILE {path}: the {field} {min(twice)} is there twice.")
    return tokens


def save(path: Path, tokens: Iterable[Token]) -> None:
    """Write the file in one step, for its owner alone. Raises OSError."""
    entries = [token.model_dump(mode="json", exclude_none=True) for token in tokens]
    for entry in entries:
        entry["scopes"] = [scope for scope in PERMISSIONS if scope in entry["scopes"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"tokens": entries}, file, indent=2)
            file.write("\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class Keyring:
    """All tokens; the file is read again when it changes, and a broken one leaves the tokens as they were."""

    def __init__(self, tokens: Iterable[str], file: Path | None) -> None:
        """Raises StartupError for a file that cannot be read."""
        everything = frozenset(PERMISSIONS)
        self._fixed = {
            digest: Token(name="token", sha256=digest, scopes=everything)
            for digest in (sha256(token.encode()) for token in tokens)
        }
        self._file = file
        self._signature = self._look()
        self._tokens = self._all(load(file) if file else [])

    def find(self, secret: bytes) -> Token | None:
        """The token of that secret."""
        self._read_again()
        return self._tokens.get(sha256(secret))

    def _all(self, tokens: Iterable[Token]) -> Mapping[str, Token]:
        return {token.sha256: token for token in tokens} | self._fixed

    def _read_again(self) -> None:
        signature = self._look()
        if not self._file or signature == self._signature:
            return
        self._signature = signature
        try:
            self._tokens = self._all(load(self._file))
            log.info("tokens read", count=len(self._tokens))
        except StartupError as error:
            log.warning("the tokens stay as they were", reason=str(error))

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = self._file.stat() if self._file else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_ino, status.st_size) if status else None
