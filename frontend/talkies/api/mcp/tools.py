"""The MCP tools: the services of the routes for speech, voices and files, for agents."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO

import structlog
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from talkies_kit.wire import Sampling

from talkies import __version__, metrics, refusals
from talkies.api.answers import report
from talkies.api.mcp.schema import (
    Arguments,
    Deleted,
    FileList,
    ListedFile,
    ListedVoice,
    ModelList,
    NoArguments,
    PathArgument,
    PutFile,
    Speak,
    Transcribe,
    VoiceList,
)
from talkies.api.scopes import require
from talkies.api.services import Services
from talkies.api.spool import spool
from talkies.asr.plan import TranscriptionFields, plan_of
from talkies.errors import BadRequest, TalkiesError, TooLarge, choose
from talkies.families import Modality
from talkies.files.locate import is_staged
from talkies.tokens import Permission
from talkies.tts import encoder

log = structlog.get_logger("talkies.mcp")

_WHITESPACE = dict.fromkeys(map(ord, " \t\r\n"))
_PIECE = 1 << 20
"""Base64 characters decoded at a time; a multiple of 4."""

_INSTRUCTIONS = """\
Speech to text and text to speech. transcribe takes a file_path: an http(s) URL, or a path that list_files shows. \
speak stages its audio, list_voices has its voices. put_file stages a small file; PUT /v1/files/{path} over HTTP \
stages a big one without its tokens."""


@dataclass(frozen=True, slots=True)
class _Entry:
    tool: Tool
    arguments: type[Arguments]
    run: Callable[[Any, Request], Awaitable[CallToolResult]]
    scope: Permission | None
    """What the caller's token must allow."""


class Tools:
    """The tools and the protocol server that offers them; `server` is for one session manager."""

    def __init__(self, services: Services) -> None:
        self._services = services
        entries = (
            _entry("list_models", NoArguments, self._list_models, _READS, ModelList),
            _entry("transcribe", Transcribe, self._transcribe, _TRANSCRIBES, scope="transcribe"),
            _entry("list_voices", NoArguments, self._list_voices, _READS, VoiceList),
            _entry("speak", Speak, self._speak, _REPLACES, ListedFile, scope="speak"),
            _entry("list_files", NoArguments, self._list_files, _READS, FileList, scope="files"),
            _entry("put_file", PutFile, self._put_file, _REPLACES, ListedFile, scope="files"),
            _entry("get_file", PathArgument, self._get_file, _READS, scope="files"),
            _entry("delete_file", PathArgument, self._delete_file, _REPLACES, Deleted, scope="files"),
        )
        self._entries = {entry.tool.name: entry for entry in entries}
        self.server: Server[Any] = Server(
            "talkies",
            version=__version__,
            instructions=_INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
            get_tool_input_schema=lambda name: self._entries[name].tool.input_schema if name in self._entries else None,
        )

    async def _list(self, _: ServerRequestContext[Any], __: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[entry.tool for entry in self._entries.values()])

    async def _call(self, context: ServerRequestContext[Any, Request], asked: CallToolRequestParams) -> CallToolResult:
        entry = self._entries.get(asked.name)
        if entry is None or context.request is None:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {asked.name}")
        try:
            # Agents send null for what they leave out.
            given = {name: value for name, value in (asked.arguments or {}).items() if value is not None}
            if entry.scope:
                require(context.request.state, entry.scope)
            return await entry.run(entry.arguments.model_validate(given), context.request)
        except ValidationError as error:
            return _failed("; ".join(_fault(fault) for fault in error.errors(include_input=False, include_url=False)))
        except TalkiesError as error:
            return _failed(error.message)
        except Exception as error:
            if refused := refusals.answer_to(error):
                return _failed(refused.message)
            # Where it happened, but not the message: it may quote what the user said or wrote.
            report(log.bind(tool=asked.name), error)
            return _failed("Internal error")

    async def _list_models(self, _: NoArguments, __: Request) -> CallToolResult:
        """List the speech-to-text models that transcribe takes, with their defaults and whether they are in memory."""
        loaded = {resident.model for resident in await self._services.residency.ps()}
        models = [
            {
                "slug": model.slug,
                "executor": model.executor.name,
                "default_source_lang": model.default_source_lang,
                "default_target_lang": model.default_target_lang,
                "default_task": model.default_task,
                "loaded": model.slug in loaded,
            }
            for model in self._services.registry.values()
            if model.modality is Modality.ASR
        ]
        return _json(models, structured={"result": models})

    async def _transcribe(self, asked: Transcribe, request: Request) -> CallToolResult:
        """Transcribe speech from a URL or a staged file; the answer is the text in the format that was asked for.

        A long recording takes minutes.
        """
        model = asked.model or self._default(Modality.ASR)
        fields = TranscriptionFields.model_validate({**asked.model_dump(), "model": model})
        plan = plan_of(self._services.registry, fields)
        metrics.work().model = plan.model.slug
        if is_staged(asked.file_path):
            require(request.state, "files")
        path = await self._services.sources.locate(asked.file_path)
        with self._services.sources.hold(path):
            transcript = await self._services.transcriber.transcribe(
                plan.model, path, plan.options, diarize=plan.diarize, request_id=request.state.request_id
            )
        return _text(await asyncio.to_thread(plan.render, transcript))

    async def _list_voices(self, _: NoArguments, __: Request) -> CallToolResult:
        """List the voices that speak takes."""
        found = await asyncio.to_thread(self._services.voices.all)
        listed = [ListedVoice(voice=v.name, model=v.model, default=v.default, language=v.language or "") for v in found]
        voices = VoiceList(voices=listed).model_dump()
        return _json(voices, structured=voices)

    async def _speak(self, asked: Speak, request: Request) -> CallToolResult:
        """Speak a text into a staged audio file; get_file, or GET /v1/files/{path} over HTTP, gives it."""
        require(request.state, "files")
        model = self._services.registry.find(asked.model or self._default(Modality.TTS))
        metrics.work().model = model.slug
        if model.modality is not Modality.TTS:
            raise BadRequest(f"{model.slug} transcribes; list_voices has the models that speak.", param="model")
        if not asked.input.strip():
            raise BadRequest("input must not be empty.", param="input")
        format = choose(encoder.FORMATS, PurePosixPath(asked.path).suffix.removeprefix("."), "suffix of path")
        voice = await asyncio.to_thread(self._services.voices.resolve, model, asked.voice)
        pcm = self._services.synthesizer.speak(
            model, asked.input, voice=voice, speed=asked.speed, sampling=Sampling(), request_id=request.state.request_id
        )
        uploads = self._services.settings.uploads
        with spool(uploads) as file:
            with refusals.writing(uploads):
                await encoder.encode(pcm, format, model.executor.sample_rate, file)
            file.seek(0)
            staged = asdict(await self._services.staging.put(asked.path, _blocks(file)))
        return _json(staged, structured=staged)

    def _default(self, modality: Modality) -> str:
        """Raises BadRequest where no model of that kind is served."""
        if model := self._services.registry.defaults.get(modality):
            return model.slug
        raise BadRequest(f"This server has no {modality} model.", param="model")

    async def _list_files(self, _: NoArguments, __: Request) -> CallToolResult:
        """List the staged files: path, size in bytes and time of the last change."""
        files = {"files": [asdict(file) for file in await asyncio.to_thread(self._services.staging.list)]}
        return _json(files, structured=files)

    async def _put_file(self, asked: PutFile, _: Request) -> CallToolResult:
        """Stage a small file that is sent in base64; for a big one, PUT /v1/files/{path} over HTTP spares tokens."""
        encoded = await asyncio.to_thread(self._checked, asked.content_base64)
        staged = asdict(await self._services.staging.put(asked.path, _decoded(encoded)))
        return _json(staged, structured=staged)

    async def _get_file(self, asked: PathArgument, request: Request) -> CallToolResult:
        """Read a staged file, in base64; for a big one, GET /v1/files/{path} over HTTP spares tokens."""
        with os.fdopen(await asyncio.to_thread(self._services.staging.open, asked.path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > self._services.settings.max_upload_bytes:
                raise TooLarge(
                    f"The file has {size} bytes, get_file gives up to {self._services.settings.max_upload_bytes}; "
                    "GET /v1/files/{path} over HTTP gives all of it.",
                    param="path",
                )
            await request.state.turn.take_for(size)
            return _text(await asyncio.to_thread(_encoded, file))

    async def _delete_file(self, asked: PathArgument, _: Request) -> CallToolResult:
        """Delete a staged file, and the folders that are empty then."""
        await asyncio.to_thread(self._services.staging.delete, asked.path)
        deleted = {"path": asked.path.removeprefix("/"), "deleted": True}
        return _json(deleted, structured=deleted)

    def _checked(self, content: str) -> str:
        """`content` without line breaks, of the right length for base64 of a file that is not too large."""
        encoded = content.translate(_WHITESPACE) if any(space in content for space in " \t\r\n") else content
        if len(encoded) % 4 or encoded.find("=", 0, -2) >= 0:
            raise _not_base64()
        size = len(encoded) // 4 * 3 - encoded[-2:].count("=")
        if size > self._services.settings.max_upload_bytes:
            raise TooLarge(
                f"The file has {size} bytes; put_file takes up to {self._services.settings.max_upload_bytes}.",
                param="content_base64",
            )
        return encoded


_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_TRANSCRIBES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
"""A fetched URL stays in staging."""
_REPLACES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)


def _entry(
    name: str,
    arguments: type[Arguments],
    run: Callable[[Any, Request], Awaitable[CallToolResult]],
    annotations: ToolAnnotations,
    output: type[BaseModel] | None = None,
    scope: Permission | None = None,
) -> _Entry:
    tool = Tool(
        name=name,
        description=" ".join((run.__doc__ or "").split()),
        input_schema=arguments.model_json_schema(),
        output_schema=output.model_json_schema() if output else None,
        annotations=annotations,
    )
    return _Entry(tool, arguments, run, scope)


def _text(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=text)])


def _json(payload: object, structured: dict[str, Any]) -> CallToolResult:
    text = json.dumps(payload, ensure_ascii=False)
    return CallToolResult(content=[TextContent(text=text)], structured_content=structured)


def _failed(message: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=message)], is_error=True)


def _fault(fault: Any) -> str:
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"


def _not_base64() -> BadRequest:
    return BadRequest("content_base64 must be base64 with its padding.", param="content_base64")


async def _blocks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while block := await asyncio.to_thread(file.read, _PIECE):
        yield block


async def _decoded(encoded: str) -> AsyncIterator[bytes]:
    for start in range(0, len(encoded), _PIECE):
        try:
            piece = base64.b64decode(encoded[start : start + _PIECE], validate=True)
        except ValueError:
            raise _not_base64() from None
        yield piece


def _encoded(file: BinaryIO) -> str:
    return base64.b64encode(file.read()).decode("ascii")
