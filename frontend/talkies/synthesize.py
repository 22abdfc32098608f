"""One speech: hold the model, stream its PCM."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from talkies_kit import wire
from talkies_kit.wire import Sampling

from talkies.errors import Unavailable
from talkies.registry import Model
from talkies.render import config_parameter
from talkies.residency import Residency
from talkies.settings import Settings
from talkies.triton import Triton


class Synthesizer:
    """Speaks through tritonserver."""

    def __init__(self, settings: Settings, triton: Triton, residency: Residency) -> None:
        self._settings = settings
        self._triton = triton
        self._residency = residency

    def sample_rate(self, model: Model) -> int:
        """Of the PCM that `speak` yields for this model, in Hz."""
        return int(config_parameter(model.family, wire.CONFIG_SAMPLE_RATE))

    async def speak(
        self, model: Model, text: str, *, voice: str, speed: float, sampling: Sampling, request_id: str
    ) -> AsyncGenerator[bytes]:
        """s16le mono PCM at `sample_rate(model)`, sentence by sentence.

        A request whose engine or server dies before its first sentence is run once more.
        """
        spoken = False
        for last_try in (False, True):
            try:
                async with (
                    self._residency.use(model),
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
                    ) as stream,
                ):
                    async for pcm in stream:
                        spoken = True
                        yield pcm
                return
            except Unavailable:
                if spoken or last_try:
                    raise
