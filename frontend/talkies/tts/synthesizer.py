"""One speech: hold the model, stream its PCM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog
from talkies_kit.wire import Sampling

from talkies import metrics
from talkies.engines.attempts import attempts
from talkies.engines.residency import Residency
from talkies.engines.triton import Triton
from talkies.errors import EngineDied, Unavailable
from talkies.registry import Model
from talkies.settings import Settings

log = structlog.get_logger("talkies.synthesize")

_LOOK = 1.0
"""Seconds of silence after which the engine's process is looked for."""


class Synthesizer:
    """Speaks through tritonserver."""

    def __init__(self, settings: Settings, triton: Triton, residency: Residency) -> None:
        self._settings = settings
        self._triton = triton
        self._residency = residency

    async def speak(
        self, model: Model, text: str, *, voice: str, speed: float, sampling: Sampling, request_id: str
    ) -> AsyncGenerator[bytes]:
        """s16le mono PCM at the engine's sample rate, sentence by sentence.

        A request whose engine or server dies is run once more: from the piece where it was, if the engine's pieces
        are the same each time, otherwise only before its first.
        """
        if self._settings.log_content:
            log.info("input", model=model.slug, text=text)
        rate = model.executor.sample_rate
        spoken = 0
        for attempt in attempts(self._settings.request_timeout):
            try:
                async with (
                    self._residency.use(model) as alive,
                    aclosing(
                        self._triton.synthesize(
                            model.slug,
                            text,
                            voice=voice,
                            speed=speed,
                            language="",
                            sampling=sampling,
                            request_id=request_id,
                            within=attempt.within,
                        )
                    ) as answer,
                    aclosing(_watched(answer, alive)) as stream,
                ):
                    again = spoken
                    async for pcm in stream:
                        if again:
                            again -= 1
                            continue
                        spoken += 1
                        metrics.work().spoken += len(pcm) / (2 * rate)
                        yield pcm
                return
            except Unavailable as error:
                if spoken and not model.executor.repeats:
                    raise
                attempt.forgive(error)


async def _watched(stream: AsyncGenerator[bytes], alive: Callable[[], bool]) -> AsyncGenerator[bytes]:
    """`stream`, which Triton leaves open when the process behind it dies. Raises EngineDied then."""
    while True:
        step = asyncio.ensure_future(anext(stream, None))
        try:
            while not (await asyncio.wait({step}, timeout=_LOOK))[0]:
                if not alive():
                    raise EngineDied("The model's process ended while it spoke; try again.")
            piece = step.result()
        finally:
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)
        if piece is None:
            return
        yield piece
