"""The six MCP tools: the ASR and file routes' services, for agents."""

from __future__ import annotations

import asyncio
import base64
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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

from talkies import __version__, transcription
from talkies.errors import BadRequest, NotFound, TalkiesError, TooLarge
from talkies.families import Modality
from talkies.mcp_schema import (
    Arguments,
    Deleted,
    FileList,
    ListedFile,
    ModelList,
    NoArguments,
    PathArgument,
    PutFile,
    Transcribe,
)
from talkies.registry import Registry
from talkies.residency import Residency
from talkies.settings import Settings
from talkies.sources import Sources
from talkies.staging import Staging
from talkies.transcribe import Transcriber

log = structlog.get_logger("talkies.mcp")

_WHITESPACE = dict.fromkeys(map(ord, " \t\r\n"))
_PIECE = 1 << 20
"""Base64 characters decoded at a time; a multiple of 4."""

_INSTRUCTIONS = """\
Speech to text. Call list_models for a model, then transcribe with a file_path: an http(s) URL, or a path that \
list_files shows. put_file stages a small file; PUT /v1/files/{path} over HTTP stages a big one without its tokens."""


@dataclass(frozen=True, slots=True)
class _Entry:
    tool: Tool
    arguments: type[Arguments]
    run: Callable[[Any, Request], Awaitable[CallToolResult]]


class Tools:
    """The tools and the protocol server that offers them; `server` is for one session manager."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        transcriber: Transcriber,
        residency: Residency,
        sources: Sources,
        staging: Staging,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._transcriber = transcriber
        self._residency = residency
        self._sources = sources
        self._staging = staging
        entries = (
            _entry("list_models", NoArguments, self._list_models, _READS, ModelList),
            _entry("transcribe", Transcribe, self._transcribe, _TRANSCRIBES),
            _entry("list_files", NoArguments, self._list_files, _READS, FileList),
            _entry("put_file", PutFile, self._put_file, _REPLACES, ListedFile),
            _entry("get_file", PathArgument, self._get_file, _READS),
            _entry("delete_file", PathArgument, self._delete_file, _REPLACES, Deleted),
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
            return await entry.run(entry.arguments.model_validate(given), context.request)
        except ValidationError as error:
            return _failed("; ".join(_fault(fault) for fault in error.errors(include_input=False, include_url=False)))
        except TalkiesError as error:
            return _failed(error.message)
        except Exception as error:
            # Where it happened, but not the message: it may quote what the user said or wrote.
            frames = traceback.format_tb(error.__traceback__)
            log.error("unhandled", tool=asked.name, error=type(error).__name__, at=frames)
            return _failed("Internal error")

    async def _list_models(self, _: NoArguments, __: Request) -> CallToolResult:
        """List the speech-to-text models that transcribe takes, with their defaults and whether they are in memory."""
        loaded = {resident.model for resident in await self._residency.ps()}
        models = [
            {
                "slug": model.slug,
                "executor": model.executor.name,
                "default_source_lang": model.default_source_lang,
                "default_target_lang": model.default_target_lang,
                "default_task": model.default_task,
                "loaded": model.slug in loaded,
            }
            for model in self._registry.values()
            if model.modality is Modality.ASR
        ]
        return _json(models, structured={"result": models})

    async def _transcribe(self, asked: Transcribe, request: Request) -> CallToolResult:
        """Transcribe speech from a URL or a staged file; the answer is the text in the format that was asked for.

        A long recording takes minutes.
        """
        fields = transcription.TranscriptionFields.model_validate(asked.model_dump())
        plan = transcription.plan(self._registry, fields)
        request.state.model = plan.model.slug
        path = await self._sources.locate(asked.file_path)
        transcript = await self._transcriber.transcribe(
            plan.model, path, plan.options, diarize=plan.diarize, request_id=request.state.request_id
        )
        return _text(plan.render(transcript))

    async def _list_files(self, _: NoArguments, __: Request) -> CallToolResult:
        """List the staged files: path, size in bytes and time of the last change."""
        files = {"files": [asdict(file) for file in await asyncio.to_thread(self._staging.list)]}
        return _json(files, structured=files)

    async def _put_file(self, asked: PutFile, _: Request) -> CallToolResult:
        """Stage a small file that is sent in base64; for a big one, PUT /v1/files/{path} over HTTP spares tokens."""
        encoded = await asyncio.to_thread(self._checked, asked.content_base64)
        staged = asdict(await self._staging.put(asked.path, _decoded(encoded)))
        return _json(staged, structured=staged)

    async def _get_file(self, asked: PathArgument, request: Request) -> CallToolResult:
        """Read a staged file, in base64; for a big one, GET /v1/files/{path} over HTTP spares tokens."""
        path = await asyncio.to_thread(self._staging.find, asked.path, param="path")
        try:
            size = (await asyncio.to_thread(path.stat)).st_size
            if size > self._settings.max_upload_bytes:
                raise TooLarge(
                    f"The file has {size} bytes, get_file gives up to {self._settings.max_upload_bytes}; "
                    "GET /v1/files/{path} over HTTP gives all of it.",
                    param="path",
                )
            await request.state.turn.take_for(size)
            return _text(await asyncio.to_thread(_encoded, path))
        except FileNotFoundError:
            raise NotFound("The staged file has just been deleted.", param="path") from None

    async def _delete_file(self, asked: PathArgument, _: Request) -> CallToolResult:
        """Delete a staged file, and the folders that are empty then."""
        await asyncio.to_thread(self._staging.delete, asked.path)
        deleted = {"path": asked.path.removeprefix("/"), "deleted": True}
        return _json(deleted, structured=deleted)

    def _checked(self, content: str) -> str:
        """`content` without line breaks, of the right length for base64 of a file that is not too large."""
        encoded = content.translate(_WHITESPACE) if any(space in content for space in " \t\r\n") else content
        if len(encoded) % 4 or encoded.find("=", 0, -2) >= 0:
            raise _not_base64()
        size = len(encoded) // 4 * 3 - encoded[-2:].count("=")
        if size > self._settings.max_upload_bytes:
            raise TooLarge(
                f"The file has {size} bytes; put_file takes up to {self._settings.max_upload_bytes}.",
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
) -> _Entry:
    tool = Tool(
        name=name,
        description=" ".join((run.__doc__ or "").split()),
        input_schema=arguments.model_json_schema(),
        output_schema=output.model_json_schema() if output else None,
        annotations=annotations,
    )
    return _Entry(tool, arguments, run)


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


async def _decoded(encoded: str) -> AsyncIterator[bytes]:
    for start in range(0, len(encoded), _PIECE):
        try:
            piece = base64.b64decode(encoded[start : start + _PIECE], validate=True)
        except ValueError:
            raise _not_base64() from None
        yield piece


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")
