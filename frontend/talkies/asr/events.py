"""A transcript as the events of OpenAI's `stream=true`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from talkies import formats
from talkies.progress import Piece
from talkies.transcript import Transcript
from talkies.transcription import Plan

Event = dict[str, Any]


async def events(plan: Plan, updates: AsyncGenerator[list[Piece] | Transcript]) -> AsyncGenerator[list[Event]]:
    """The events that each of `Transcriber.stream`'s updates makes, often none.

    The deltas joined are the text of the last event, `transcript.text.done`. Of verbose_json it has the other fields
    too, since no event of OpenAI's carries them.
    """
    diarized = plan.format.diarized
    text: list[str] = []
    async with aclosing(updates):
        async for update in updates:
            if isinstance(update, Transcript):
                yield [_done(plan, update, "".join(text))]
                return
            made: list[Event] = []
            for piece in update:
                delta = piece.plain if diarized else piece.text
                text.append(delta)
                event: Event = {"type": "transcript.text.delta", "delta": delta}
                if diarized and piece.segment:
                    segment = formats.diarized_segment(piece.segment, plan.asked)
                    made += [{**event, "segment_id": segment["id"]}, segment]
                else:
                    made.append(event)
            yield made


def _done(plan: Plan, transcript: Transcript, text: str) -> Event:
    more = formats.verbose(transcript, plan.asked) if plan.format.words else {}
    return {**more, "type": "transcript.text.done", "text": text, "usage": formats.usage(transcript)}
