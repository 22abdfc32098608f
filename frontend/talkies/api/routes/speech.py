"""POST /v1/audio/speech."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from talkies_kit.wire import InvalidInput, Sampling

from talkies import metrics, refusals
from talkies.api import openapi
from talkies.api.bodies import JsonBody, receive_json
from talkies.api.disconnect import while_connected
from talkies.api.services import Services
from talkies.api.spool import SpooledResponse, spool
from talkies.api.streams import AudioStream, EventStream
from talkies.errors import BadRequest, choose
from talkies.families import Modality
from talkies.tts import encoder
from talkies.tts.events import events_of

_SLOWEST, _FASTEST = 0.25, 4.0
_ALSO = {"ogg": "opus"}
"""Other names of a format."""


class VoiceReference(BaseModel):
    """OpenAI's other way to name a voice."""

    id: str


class SpeechRequest(JsonBody):
    """The body; fields unknown here are ignored."""

    model: str = Field(description="A slug of GET /v1/models.")
    input: str = Field(description="The text to speak, of any length.")
    voice: str | VoiceReference | None = Field(None, description="A voice of the model; its default otherwise.")
    response_format: str = Field("mp3", description=f"One of {', '.join(encoder.FORMATS)}.")
    speed: float = Field(1.0, allow_inf_nan=False, description="Playback rate, clamped to 0.25 to 4.")
    instructions: str | None = Field(None, description="Accepted, without effect.")
    stream_format: str | None = Field(
        None, description="audio or sse: send the speech while it is made; otherwise whole, with its length."
    )
    temperature: float | None = Field(
        None, description="For engines that draw what they say, as the four that follow; 0 to 2, 0 is greedy."
    )
    top_k: int | None = Field(None, description="0 to 1000; 0 is all.")
    top_p: float | None = Field(None, description="0.01 to 1.")
    repetition_penalty: float | None = Field(None, description="1 to 2.")
    max_new_tokens: int | None = Field(None, description="Most frames of a sentence or so; 1 to 8192.")


def router(services: Services) -> APIRouter:
    synthesizer = services.synthesizer
    routes = APIRouter(prefix="/v1/audio", tags=["audio"])

    @routes.post(
        "/speech", openapi_extra=_openapi(), response_class=Response, responses=openapi.responses(*openapi.WORK)
    )
    async def speech(request: Request) -> Response:
        """Speak a text; the answer is the encoded audio, whole or while it is made."""
        body = await receive_json(request, SpeechRequest)
        model = services.registry.find(body.model)
        metrics.work().model = model.slug
        if model.modality is not Modality.TTS:
            raise BadRequest(f"{model.slug} transcribes; choose a model with modality tts.", param="model")
        if not body.input.strip():
            raise BadRequest("input must not be empty.", param="input")
        name = body.response_format.lower() or "mp3"
        format = choose(encoder.FORMATS, _ALSO.get(name, name), "response_format")
        dialect = services.dialect(body.model)
        streaming = _streaming(request, body.stream_format, streams=name in dialect.streamed_speech)
        media_type = dialect.media_types.get(name, format.media_type)
        asked = body.voice.id if isinstance(body.voice, VoiceReference) else body.voice or ""
        voice = await asyncio.to_thread(services.voices.resolve, model, asked, openai=dialect.openai_voices)
        speed = min(max(body.speed, _SLOWEST), _FASTEST)
        sampling = _sampling(body)
        rate = model.executor.sample_rate
        # Raw PCM is the one format that does not say its rate itself.
        headers = {"x-sample-rate": str(rate)} if name == "pcm" else {}
        pcm = synthesizer.speak(
            model, body.input, voice=voice, speed=speed, sampling=sampling, request_id=request.state.request_id
        )
        if streaming:
            audio = encoder.stream(pcm, format, rate)
            if streaming == "sse":
                return EventStream(events_of(audio), headers=headers)
            return AudioStream(audio, media_type, headers=headers)
        with contextlib.ExitStack() as held:
            file = held.enter_context(spool(services.settings.uploads))
            with refusals.writing(services.settings.uploads):
                await while_connected(request, encoder.encode(pcm, format, rate, file))
            held.pop_all()
        return SpooledResponse(file, media_type, headers)

    return routes


def _streaming(request: Request, asked: str | None, *, streams: bool) -> str | None:
    """How to send speech while it is made, `audio` or `sse`; None for the whole file, which is what an HTTP/1.0 client
    gets and, unless the dialect `streams` the format, who has not asked. Raises BadRequest."""
    if asked not in (None, "audio", "sse"):
        raise BadRequest(f"Unknown stream_format {asked!r}; choose audio or sse.", param="stream_format")
    # What OpenAI's SDK sends for `with_streaming_response`, whose user reads the body while it comes.
    reads_on = request.headers.get("x-stainless-raw-response") == "stream"
    if asked is None and (reads_on or streams):
        asked = "audio"
    if asked == "audio" and request.scope["http_version"] == "1.0":
        return None  # there the end of a connection is the end of a file: broken off speech would look whole
    return asked


def _sampling(body: SpeechRequest) -> Sampling:
    """The fields that say how to sample. Raises BadRequest."""
    try:
        return Sampling.from_parameters(body.model_dump())
    except InvalidInput as error:
        raise BadRequest(f"{error}.", param=error.param) from None


def _openapi() -> dict[str, Any]:
    schema = SpeechRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs")
    schema["properties"]["voice"]["anyOf"][1] = VoiceReference.model_json_schema()
    made = openapi.binary("The audio.", (format.media_type for format in encoder.FORMATS.values()))
    made["200"]["content"][EventStream.media_type] = {}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": made,
    }
