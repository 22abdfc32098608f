"""A transcript as the events of OpenAI's `stream=true`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from talkies_kit.wire import Token

from talkies.asr import formats
from talkies.asr.plan import Plan
from talkies.asr.progress import Step
from talkies.asr.transcript import Transcript

Event = Mapping[str, Any]


async def events_of(plan: Plan, progress: AsyncGenerator[Step | Transcript]) -> AsyncGenerator[list[Event]]:
    """The events that each step of `Transcriber.stream` makes, often none.

    The deltas joined are the text of the last event, `transcript.text.done`. Of verbose_json it has the other fields
    too, since no event of OpenAI's carries them. Who asked for progress gets two more types of event.
    """
    diarized = plan.format.diarized
    text: list[str] = []
    async with aclosing(progress):
        async for step in progress:
            if isinstance(step, Transcript):
                answer = {"type": "transcript.answer", "content": plan.render(step)}
                yield [*([answer] if plan.watched else []), _done(plan, step, "".join(text))]
                return
            events: list[Event] = []
            for update in step.updates:
                delta = update.plain if diarized else update.text
                text.append(delta)
                event: Event = {"type": "transcript.text.delta", "delta": delta, **_rated(plan, update.tokens)}
                if diarized and update.segment:
                    segment = formats.diarized_segment(update.segment, plan.asked)
                    events += [{**event, "segment_id": segment["id"]}, segment]
                else:
                    events.append(event)
            if plan.watched:
                events.append({"type": "transcript.progress", "seconds": step.seconds})
            yield events


def _done(plan: Plan, transcript: Transcript, text: str) -> Event:
    more: Event = formats.verbose(transcript, plan.asked) if plan.format.words else {}
    if plan.asked.dialect.languages:
        more = {**more, "languages": formats.spoken(transcript)}
    more = {**more, **_rated(plan, transcript.tokens)}
    return {**more, "type": "transcript.text.done", "text": text, "usage": formats.usage(transcript)}


def _rated(plan: Plan, tokens: Iterable[Token]) -> Event:
    return {"logprobs": formats.logprobs(tokens)} if plan.asked.logprobs else {}
