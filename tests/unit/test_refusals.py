"""What the operating system refuses is never the client's fault, and never unexpected."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from talkies import refusals
from talkies.api.answers import answer, body
from talkies.errors import OutOfSpace, Unavailable

CODES = st.sampled_from(sorted(errno.errorcode))


@given(CODES)
def test_every_errno_is_full_scarce_or_unexpected(code: int) -> None:
    error = OSError(code, os.strerror(code), "/a/path/of/the/server")
    response = answer(error)
    assert response.status_code in (500, 503, 507)
    assert "/a/path" not in bytes(response.body).decode()
    assert body(error)["error"]["type"] == "server_error"
    assert ("retry-after" in response.headers) == (response.status_code == 503)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full(code: int) -> None:
    assert isinstance(refusals.answer_to(OSError(code, "")), OutOfSpace)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        *(OSError(code, "") for code in (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EIO)),
    ],
)
def test_scarce(error: Exception) -> None:
    assert isinstance(refusals.answer_to(error), Unavailable)


def test_the_log_says_where(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(OutOfSpace), refusals.writing(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [(line["folder"], line["reason"]) for line in logs] == [(str(tmp_path), "No space left on device")]
    with pytest.raises(PermissionError), refusals.writing(tmp_path):
        raise PermissionError(errno.EACCES, "")


def test_a_sentence() -> None:
    full = refusals.sentence(OSError(errno.ENOSPC, "No space left on device", "/data/files"))
    assert str(full).startswith("/data/files: No space left on device; free some space")
