"""One speech: hold the model, stream its PCM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog
from talkies_kit import wire
from talkies_kit.wire import Sampling

from talkies import metrics
from talkies.errors import EngineDied, Unavailable
from talkies.registry import Model
from talkies.render import config_parameter
from talkies.residency import Residency
from talkies.settings import Settings
from talkies.triton import Triton

log = structlog.get_logger("talkies.synthesize")

_LOOK = 1.0
"""Seconds of silence after which the engine's process is looked for."""


class Synthesizer:
    """Speaks through tritonserver."""

    def __init__(self, settings: Settings, triton: Triton, residency: Residency) -> None:
        self._settings = settings
        self._triton = triton
        self._residency = residency

    def sample_rate(self, model: Model) -> int:
        """Of the PCM that `speak` yields for this model, in Hz."""
        return int(config_parameter(model.executor, wire.CONFIG_SAMPLE_RATE))

    async def speak(
        self, model: Model, text: str, *, voice: str, speed: float, sampling: Sampling, request_id: str
    ) -> AsyncGenerator[bytes]:
        """s16le mono PCM at `sample_rate(model)`, sentence by sentence.

        A request whose engine or server dies is run once more: from the piece where it was, if the engine's pieces
        are the same each time, otherwise only before its first.
        """
        if self._settings.log_content:
            log.info("input", model=model.slug, text=text)
        rate = self.sample_rate(model)
        spoken = 0
        for last_try in (False, True):
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
                            within=self._settings.request_timeout,
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
            except Unavailable:
                if last_try or (spoken and not model.executor.repeats):
                    raise


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
