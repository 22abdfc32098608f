"""Transcripts as events, over fake services: what is sent when, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Message
from talkies.api import streams
from talkies.api.streams import Events, EventStream
from talkies.asr.transcriber import Transcriber
from talkies.asr.transcript import Transcript
from talkies.engines.triton import ChunkAnswer
from talkies.errors import BadRequest, EngineDied
from talkies.registry import Registry
from talkies.settings import PROJECT, Settings
from talkies_kit.wire import AsrOptions, Segment

from harness.facade import TRANSCRIPTIONS, Facade, assert_error, facade

USAGE = {"type": "duration", "seconds": 2.5}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Facade]:
    async with facade(tmp_path) as running:
        yield running


def parse(body: str) -> list[dict[str, Any]]:
    assert body.endswith("\n\n")
    return [json.loads(part.removeprefix("data: ")) for part in body[:-2].split("\n\n")]


async def streamed(api: Facade, **fields: Any) -> list[dict[str, Any]]:
    response = await api.transcribe(stream="true", **fields)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-length" not in response.headers
    assert api.uploads == []
    return parse(response.text)


@pytest.mark.parametrize("format", ["json", "text"])
async def test_text_as_events(api: Facade, format: str) -> None:
    assert await streamed(api, response_format=format) == [
        {"type": "transcript.text.delta", "delta": "Ask not"},
        {"type": "transcript.text.done", "text": "Ask not", "usage": USAGE},
    ]
    assert api.transcriber.closed


async def test_the_last_event_of_verbose_json_has_its_fields(api: Facade) -> None:
    done = (await streamed(api, response_format="verbose_json"))[-1]
    whole = (await api.transcribe(response_format="verbose_json")).json()
    assert done == {"type": "transcript.text.done", "usage": USAGE, **whole}


async def test_turns_as_events(api: Facade) -> None:
    delta, done = await streamed(api, diarization="true")
    assert delta["delta"] == done["text"] == "L: Ask not"


async def test_diarized_json_as_events(api: Facade) -> None:
    fields: dict[str, Any] = {"response_format": "diarized_json", "known_speaker_names[]": ["Jack", "Jill"]}
    delta, segment, done = await streamed(api, **fields)
    assert api.transcriber.calls[0]["diarize"]
    assert delta == {"type": "transcript.text.delta", "delta": "Ask not", "segment_id": segment["id"]}
    assert (segment["type"], segment["speaker"], segment["start"]) == ("transcript.text.segment", "Jack", 0.25)
    assert done == {"type": "transcript.text.done", "text": "Ask not", "usage": USAGE}
    whole = (await api.transcribe(**fields)).json()
    assert whole["segments"] == [segment]


async def test_subtitles_are_not_streamed(api: Facade) -> None:
    response = await api.transcribe(stream="true", response_format="vtt")
    assert_error(response, 400, "vtt", "verbose_json", param="response_format")


@pytest.mark.parametrize("format", ["json", "text", "verbose_json", "diarized_json", "srt", "vtt"])
@pytest.mark.parametrize("model", ["whisper-1", "whisper-base"])
async def test_who_watches_gets_seconds_and_the_whole_answer_of_any_format(
    api: Facade, format: str, model: str
) -> None:
    fields: dict[str, Any] = {"response_format": format, "model": model}
    made = await streamed(api, **fields, **{"include[]": ["other", "progress"]})
    assert [event["seconds"] for event in made if event["type"] == "transcript.progress"] == [2.5, 2.5]
    *_, answer, done = made
    whole = await api.transcribe(**fields)
    assert answer == {"type": "transcript.answer", "content": whole.text}
    assert (done["type"], done["text"]) == ("transcript.text.done", "Ask not")
    others = [event for event in made if event["type"] not in ("transcript.progress", "transcript.answer")]
    if format not in ("srt", "vtt"):
        assert others == await streamed(api, **fields)


async def test_a_failure_before_the_first_chunk_is_an_ordinary_answer(api: Facade) -> None:
    api.transcriber.failure = BadRequest("The audio cannot be read.", param="file")
    assert_error(await api.transcribe(stream="true"), 400, "cannot be read", param="file")
    api.transcriber.failure = RuntimeError("SECRET")
    assert_error(await api.transcribe(stream="true"), 500, code="internal_error")
    assert api.uploads == []


@pytest.mark.parametrize(
    ("failure", "message"),
    [(EngineDied("It died."), "It died."), (RuntimeError("SECRET words"), "Internal server error.")],
)
async def test_a_failure_after_it_is_the_last_event(api: Facade, failure: Exception, message: str) -> None:
    api.transcriber.failure, api.transcriber.late = failure, True
    with structlog.testing.capture_logs() as lines:
        delta, last = await streamed(api)
    assert delta["delta"] == "Ask not"
    assert last["type"] == "error"
    assert last["detail"] == last["error"]["message"] == message
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert type(failure).__name__ in str(lines) and "SECRET" not in str(lines)


def upload(**fields: str) -> httpx.Request:
    data = {"model": "whisper-base", "stream": "true", **fields}
    return httpx.Request("POST", "http://talkies/", data=data, files={"file": ("a.wav", b"x" * 5000)})


async def test_hanging_up_before_the_first_chunk_ends_the_work(api: Facade) -> None:
    api.transcriber.hold = asyncio.Event()
    (line,) = await api.hang_up(TRANSCRIPTIONS, upload(), api.transcriber.started)
    assert line["status"] == 499
    assert api.transcriber.cancelled
    assert api.uploads == []


class Connection:
    """The ASGI side of one response; `gone` hangs up."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.sent: list[Message] = []
        self.reads = True
        self._more = asyncio.Event()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        self._more.set()
        if not self.reads:
            await asyncio.Event().wait()

    async def has_sent(self, what: bytes) -> None:
        while what not in self.body:
            self._more.clear()
            await self._more.wait()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    def answer(self, events: Events, held: AsyncExitStack | None = None) -> asyncio.Task[None]:
        response = EventStream(events, held=held)
        return asyncio.create_task(response({"type": "http"}, self.receive, self.send))


async def test_hanging_up_in_the_middle_ends_the_work() -> None:
    ended: list[bool] = []
    closed: list[bool] = []

    async def events() -> AsyncGenerator[list[dict[str, Any]]]:
        try:
            yield [{"a": 1}]
            await asyncio.Event().wait()
        finally:
            ended.append(not closed)

    held = AsyncExitStack()
    held.callback(closed.append, True)
    connection = Connection()
    task = connection.answer(events(), held)
    async with asyncio.timeout(5):
        await connection.has_sent(b"data")
        connection.gone.set()
        with pytest.raises(ClientDisconnect):
            await task
    assert ended == closed == [True]


async def test_a_slow_reader_does_not_hold_the_work() -> None:
    done = asyncio.Event()

    async def events() -> AsyncGenerator[list[dict[str, Any]]]:
        for number in range(1000):
            yield [{"number": number}]
        done.set()

    connection = Connection()
    connection.reads = False
    task = connection.answer(events())
    await asyncio.wait_for(done.wait(), 5)
    connection.gone.set()
    await asyncio.wait((task,), timeout=5)
    assert task.done() and task.exception()


async def test_comments_keep_a_silent_connection_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_KEEP_ALIVE", 0.01)
    go = asyncio.Event()

    async def events() -> AsyncGenerator[list[dict[str, Any]]]:
        yield []
        await go.wait()
        yield [{"text": "\u2028é"}]

    connection = Connection()
    task = connection.answer(events())
    async with asyncio.timeout(5):
        await connection.has_sent(b": keep-alive\n\n" * 2)
        go.set()
        await task
    assert connection.body.replace(b": keep-alive\n\n", b"") == b'data: {"text":"\\u2028\\u00e9"}\n\n'
    assert connection.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


# --- the transcriber -------------------------------------------------------------------------------------------------


class Room:
    """A residency that counts who is in."""

    def __init__(self) -> None:
        self.inside = 0
        self.errors: list[BaseException] = []

    def use(self, model: object) -> Room:
        return self

    async def __aenter__(self) -> None:
        self.inside += 1

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.inside -= 1
        if error:
            self.errors.append(error)


class Engine:
    """Answers one list of chunks and exceptions per run."""

    def __init__(self, *runs: list[ChunkAnswer | Exception]) -> None:
        self.runs = list(runs)
        self.asked: list[dict[str, Any]] = []

    async def transcribe(self, slug: str, path: Path, options: AsrOptions, **how: Any) -> AsyncGenerator[ChunkAnswer]:
        self.asked.append(how)
        for step in self.runs.pop(0):
            if isinstance(step, Exception):
                raise step
            yield step


def heard(index: int, text: str, *, run: str = "", channel: int = -1) -> ChunkAnswer:
    start = 10.0 * index
    return ChunkAnswer(index, channel, start, start + 10, "en", [Segment(start, start + 5, f" {text}{run}")])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    path.write_bytes(b"x")
    return path


async def run(
    engine: Engine, path: Path, slug: str = "whisper-base", *, room: Room | None = None, diarize: bool = False
) -> tuple[list[str], Transcript]:
    model = Registry.load(PROJECT / "models.json")[slug]
    transcriber = Transcriber(Settings.load(data_dir=path.parent), engine, room or Room())  # type: ignore[arg-type]
    updates = transcriber.stream(model, path, AsrOptions(), diarize=diarize, request_id="r")
    texts: list[str] = []
    async for update in updates:
        if isinstance(update, Transcript):
            return texts, update
        texts += [piece.text for piece in update.updates]
    raise AssertionError("no transcript")


async def test_a_second_run_goes_on_where_the_first_one_broke_off(path: Path) -> None:
    """Chunks 0 and 2 were made; the second run makes all of them anew, a little differently."""
    first: list[ChunkAnswer | Exception] = [heard(0, "one"), heard(2, "three"), EngineDied("dead")]
    second = [heard(i, text, run="'") for i, text in enumerate(["one", "two", "three", "four"])]
    room = Room()
    texts, transcript = await run(Engine(first, [*second]), path, room=room)
    assert "".join(texts) == transcript.text == "one two' three four'"
    assert [type(error) for error in room.errors] == [EngineDied]
    assert room.inside == 0


async def test_there_is_no_third_run(path: Path) -> None:
    engine = Engine([heard(0, "one"), EngineDied("dead")], [heard(0, "one"), EngineDied("dead again")])
    with pytest.raises(EngineDied, match="again"):
        await run(engine, path)


async def test_a_bad_request_is_not_run_again(path: Path) -> None:
    with pytest.raises(BadRequest):
        await run(Engine([BadRequest("no")]), path)


async def test_a_stream_that_is_left_gives_its_place_back(path: Path) -> None:
    room = Room()
    model = Registry.load(PROJECT / "models.json")["whisper-base"]
    transcriber = Transcriber(Settings.load(data_dir=path.parent), Engine([heard(0, "one"), heard(1, "two")]), room)  # type: ignore[arg-type]
    updates = transcriber.stream(model, path, AsrOptions(), diarize=False, request_id="r")
    assert [piece.text for piece in (await anext(updates)).updates] == ["one"]  # type: ignore[union-attr]
    assert room.inside == 1
    await updates.aclose()
    assert room.inside == 0


async def test_a_model_without_times_streams_turns_without_segments(path: Path) -> None:
    chunks = [heard(0, "well", channel=0), heard(1, "yes", channel=1), heard(2, "so", channel=0)]
    texts, transcript = await run(Engine([*chunks]), path, "canary-qwen-2.5b", diarize=True)
    assert "".join(texts) == transcript.text == "L: well\nR: yes\nL: so"
    assert transcript.segments == ()
    assert Engine([*chunks]).asked == []


async def test_both_channels_are_asked_for_in_one_request(path: Path) -> None:
    engine = Engine([heard(0, "a", channel=0), heard(1, "b", channel=1)])
    await run(engine, path, diarize=True)
    assert [how["channels"] for how in engine.asked] == ["split"]


async def test_files_of_one_request_id_are_told_apart(path: Path) -> None:
    """A proxy may send one id for many requests; the engine remembers the language of a file by its id."""
    first = Engine([heard(0, "one"), EngineDied("dead")], [heard(0, "one")])
    second = Engine([heard(0, "two")])
    await run(first, path)
    await run(second, path)
    ids = [how["request_id"] for how in (*first.asked, *second.asked)]
    assert ids[0] == ids[1] != ids[2]
    assert all(id_.startswith("r.") for id_ in ids)
