"""Multipart bodies however they are cut, lie about their length, break off or overflow."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect, Request
from talkies.api import forms
from talkies.api.bodies import receive_form, receive_json, receive_stream, validate
from talkies.api.forms import Form
from talkies.errors import BadRequest, OutOfSpace, TalkiesError, TooLarge

BOUNDARY = "b0undary"
CAP = 10_000
BYTES = st.binary(max_size=400) | st.sampled_from(
    [b"\r\n", b"\r\n--", b"--b0undary", b"\r\n--b0undar", b"\r\n--b0undaryy"]
)


def part(name: str, content: bytes, filename: str | None = None, *, header: str = "") -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    return f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n{header}\r\n".encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def pieces(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [body[a:b] for a, b in pairwise(places)]


class Sent:
    """A request whose body arrives in `pieces`; `hang_up` ends the connection instead of the body."""

    def __init__(self, pieces: Iterable[bytes], *, hang_up: bool = False, **headers: str) -> None:
        self.left = list(pieces)
        self._hang_up = hang_up
        headers = {"content_type": f"multipart/form-data; boundary={BOUNDARY}", **headers}
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.request = Request({"type": "http", "method": "POST", "headers": raw}, self._receive)

    async def _receive(self) -> dict[str, Any]:
        if not self.left and self._hang_up:
            return {"type": "http.disconnect"}
        piece = self.left.pop(0) if self.left else b""
        return {"type": "http.request", "body": piece, "more_body": bool(self.left) or self._hang_up}


async def received(sent: Sent, folder: Path) -> tuple[Form, bytes | None]:
    """The form and the file's content; afterwards nothing is left in `folder`."""
    try:
        async with receive_form(sent.request, folder, CAP) as got:
            return got, got.file.read_bytes() if got.file else None
    finally:
        assert list(folder.iterdir()) == []


async def refused(folder: Path, body: bytes, error: type[TalkiesError] = BadRequest, **headers: Any) -> TalkiesError:
    with pytest.raises(error) as caught:
        await received(Sent([body], **headers), folder)
    return caught.value


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    audio=st.lists(BYTES, max_size=6).map(b"".join),
    text=st.text(st.characters(codec="utf-8"), max_size=40),
    position=st.integers(0, 2),
    cuts=st.lists(st.integers(0, 5000), max_size=12),
)
def test_any_order_and_any_cuts(tmp_path: Path, audio: bytes, text: str, position: int, cuts: list[int]) -> None:
    if f"\r\n--{BOUNDARY}".encode() in b"\r\n" + audio or f"--{BOUNDARY}" in text:
        return  # no client chooses a boundary that is in its content
    parts = [part("model", b"whisper-base"), part("prompt", text.encode())]
    parts.insert(position, part("file", audio, "ä.wav"))
    got, content = asyncio.run(received(Sent(pieces(form(*parts), cuts)), tmp_path))
    assert got.fields == {"model": ["whisper-base"], "prompt": [text]}
    assert (content, got.size) == (audio, len(audio))


async def test_byte_by_byte(tmp_path: Path) -> None:
    body = form(part("file", b"audio" * 20, "a.wav", header="Content-Type: audio/wav\r\n"), part("model", b"m"))
    got, content = await received(Sent(body[i : i + 1] for i in range(len(body))), tmp_path)
    assert (content, got.fields) == (b"audio" * 20, {"model": ["m"]})


async def test_repeated_fields_and_files_of_other_names(tmp_path: Path) -> None:
    parts = (
        part("x", b"1"),
        part("x[]", b"2"),
        part("x", b""),
        part("other", b"y" * 70_000, "other.bin"),
        part("file", b"a", "a"),
    )
    got, content = await received(Sent([form(*parts)]), tmp_path)
    assert (got.fields, content) == ({"x": ["1", "2", ""]}, b"a")


async def test_at_most_the_cap(tmp_path: Path) -> None:
    _, content = await received(Sent([form(part("file", bytes(CAP), "a"))]), tmp_path)
    assert content == bytes(CAP)
    error = await refused(tmp_path, form(part("file", bytes(CAP + 1), "a")), TooLarge)
    assert error.param == "file" and str(CAP) in error.message


@pytest.mark.parametrize("length", ["5", "-1", "x", ""])
async def test_the_cap_holds_whatever_content_length_says(tmp_path: Path, length: str) -> None:
    await refused(tmp_path, form(part("file", bytes(CAP + 1), "a")), TooLarge, content_length=length)


async def test_a_declared_length_beyond_any_form_is_refused_unread(tmp_path: Path) -> None:
    body = [b"x" * 100] * 3
    waiting = Sent(body, content_length=str(10**12), expect="100-continue")
    with pytest.raises(TooLarge):
        await received(waiting, tmp_path)
    assert waiting.left == body
    # A client that sends at once listens only when it is done: what it sends is read and dropped.
    sending = Sent(body, content_length=str(10**12))
    with pytest.raises(TooLarge):
        await received(sending, tmp_path)
    assert sending.left == []


async def test_what_lies_outside_the_file_is_bounded_too(tmp_path: Path) -> None:
    junk = Sent([form(part("model", b"m")), *[b"x" * 100_000] * 250])
    with pytest.raises(TooLarge):
        await received(junk, tmp_path)


async def test_a_body_that_goes_on_is_not_read_for_ever(tmp_path: Path) -> None:
    sent = Sent([part("file", bytes(CAP + 1), "a"), *[b"x" * 1000] * 100])
    with pytest.raises(TooLarge):
        await received(sent, tmp_path)
    assert len(sent.left) > 80


async def test_a_client_that_still_sends_is_heard_out(tmp_path: Path) -> None:
    """It would not see the answer to a fault at the start of its form."""
    for start in (b"no boundary", part("file", b"")):
        sent = Sent([start, *[b"x" * 100] * 20])
        with pytest.raises(BadRequest):
            await received(sent, tmp_path)
        assert sent.left == []


async def test_hanging_up(tmp_path: Path) -> None:
    with pytest.raises(ClientDisconnect):
        await received(Sent([part("file", b"audio", "a")[:-2]], hang_up=True), tmp_path)


async def test_an_error_inside_the_context_removes_the_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with receive_form(Sent([form(part("file", b"a", "a"))]).request, tmp_path, CAP) as got:
            assert got.file and got.file.exists()
            raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (form(part("file", b"audio")), "file"),
        (form(part("file", b"a", "a"), part("file", b"b", "b")), "file"),
        (form(part("prompt", b"x" * 65_537)), "prompt"),
        (form(part("prompt", b"\xff")), "prompt"),
        (form(*[part("x", b"")] * 101), None),
        (form(f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\nx\r\n".encode()), None),
        (part("file", b"audio", "a"), None),
        (part("file", b"audio", "a")[:-9], None),
        (b"no boundary at all", None),
        (b"", None),
    ],
)
async def test_unsound_forms(tmp_path: Path, body: bytes, param: str | None) -> None:
    assert (await refused(tmp_path, body)).param == param


@pytest.mark.parametrize(
    "content_type",
    [
        "application/octet-stream",
        "multipart/form-data",
        "multipart/mixed; boundary=x",
        "multipart/form-data; boundary=" + "x" * 300,
        "",
    ],
)
async def test_bodies_that_are_no_form(tmp_path: Path, content_type: str) -> None:
    error = await refused(tmp_path, b"{}", content_type=content_type)
    assert "multipart/form-data" in error.message


async def test_a_form_without_a_file_may_be_url_encoded(tmp_path: Path) -> None:
    sent = Sent([b"model=whisper-1&file_path=a%2Fb.mp3&", b"prompt="], content_type="application/x-www-form-urlencoded")
    form, _ = await received(sent, tmp_path)
    assert form.fields == {"model": ["whisper-1"], "file_path": ["a/b.mp3"], "prompt": [""]}
    assert form.file is None


class Inner(BaseModel):
    type: str
    size: float = 1.0


class Fields(BaseModel):
    name: str = "none"
    keywords: list[str] = []
    inner: Inner | None = None


def test_fields_become_a_model() -> None:
    fields = {"name": ["a", "b", ""], "keywords": ["x", "", "y"], "chunking_strategy[type]": ["auto"]}
    assert validate(Fields, fields) == Fields(name="b", keywords=["x", "y"])
    assert validate(Fields, {"name": [""], "keywords": [""]}) == Fields()
    assert validate(Fields, {"inner[type]": ["x"], "inner[size]": ["2", ""]}).inner == Inner(type="x", size=2)
    assert validate(Fields, {"name": ["a"], "name[b]": ["c"], "[": ["d"], "]": ["e"]}) == Fields(name="a")


@pytest.mark.parametrize("name", ["known_speaker_references", "known_speaker_references[]"])
async def test_voices_of_known_speakers_are_read_past(tmp_path: Path, name: str) -> None:
    voices = [part(name, b"data:audio/wav;base64," + b"A" * (3 << 20))] * 4
    got, content = await received(
        Sent(pieces(form(*voices, part("file", b"a", "a")), range(0, 12 << 20, 65_536))), tmp_path
    )
    assert (got.fields, content) == ({}, b"a")
    await refused(tmp_path, form(*voices, *voices), TooLarge)


@pytest.mark.parametrize("size", [1, CAP])  # a small file is only written when it is closed
async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(Path, "open", lambda path, mode: open("/dev/full", "wb"))  # noqa: PTH123, SIM115
    with pytest.raises(OutOfSpace):
        await received(Sent([form(part("file", b"x" * size, "a.wav"))]), tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_who_is_cancelled_while_the_file_is_opened_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, opening, opened = Path.open, threading.Event(), threading.Event()

    def slow(path: Path, mode: str) -> Any:
        opening.set()
        time.sleep(0.1)
        file = real(path, mode)
        opened.set()
        return file

    monkeypatch.setattr(Path, "open", slow)
    receiving = asyncio.create_task(received(Sent([form(part("file", b"x", "a.wav"))]), tmp_path))
    await asyncio.to_thread(opening.wait, 20)
    receiving.cancel()
    await asyncio.wait({receiving})
    await asyncio.to_thread(opened.wait, 20)
    assert list(tmp_path.iterdir()) == []


class Spoken(BaseModel):
    """Says in which thread it was made."""

    input: str
    thread: int = Field(default_factory=threading.get_ident)


@pytest.mark.parametrize(("size", "beside"), [(100, False), (1 << 20, True)])
async def test_a_large_json_is_parsed_beside_the_loop(size: int, beside: bool) -> None:
    body = b'{"input": "' + b"a" * size + b'"}'
    made = await receive_json(Sent(pieces(body, range(0, size, 999))).request, Spoken)
    assert len(made.input) == size
    assert (made.thread != threading.get_ident()) is beside


@pytest.mark.parametrize("unit", [b"1,", b'{"a":', b"["])
async def test_a_json_of_many_values_is_no_request(unit: bytes) -> None:
    body = b'{"input": "Hi.", "x": [' + unit * 70_000
    sent = Sent([body[i : i + 10_000] for i in range(0, len(body), 10_000)])
    with pytest.raises(BadRequest, match="outside of its strings"):
        await receive_json(sent.request, Spoken)
    assert sent.left == []  # its client listens when it has sent all


@pytest.mark.parametrize("field", [b"a", b"a=1", b"", b"a=%41"])
@pytest.mark.parametrize("count", [101, 400_000])
async def test_an_url_encoded_form_has_as_few_fields_as_another(
    tmp_path: Path, field: bytes, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "parse_qsl", lambda *_, **__: pytest.fail("it was parsed"))
    body = b"&".join([field] * count)
    await refused(tmp_path, body[: 2 << 20], content_type="application/x-www-form-urlencoded")


@pytest.mark.parametrize("value", [b"x" * 65_537, "ä".encode() * 40_000, b"%41" * 65_537])
async def test_a_field_of_an_url_encoded_form_is_no_longer_than_another(tmp_path: Path, value: bytes) -> None:
    error = await refused(tmp_path, b"prompt=" + value, content_type="application/x-www-form-urlencoded")
    assert error.param == "prompt"


async def test_an_url_encoded_form_has_an_end(tmp_path: Path) -> None:
    await refused(tmp_path, bytes((2 << 20) + 1), TooLarge, content_type="application/x-www-form-urlencoded")


async def test_small_pieces_are_handed_on_together() -> None:
    sent = Sent([b"x"] * 100_000)
    async with receive_stream(sent.request, 100_000) as stream:
        sizes = [len(piece) async for piece in stream]
    assert sum(sizes) == 100_000 and len(sizes) <= 7
