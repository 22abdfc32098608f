"""What the routes and the MCP tools answer with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from talkies import dialect
from talkies.api.quotas import Quotas
from talkies.asr.transcriber import Transcriber
from talkies.dialect import Dialect
from talkies.engines.residency import Residency
from talkies.files.locate import Sources
from talkies.files.staging import Staging
from talkies.metrics import Metrics
from talkies.registry import Registry
from talkies.settings import Settings
from talkies.tokens import Keyring
from talkies.tts.synthesizer import Synthesizer
from talkies.tts.voices import Voices


@dataclass(frozen=True, slots=True)
class Services:
    """Of one process; `talkies.serve` makes them."""

    settings: Settings
    registry: Registry
    metrics: Metrics
    residency: Residency
    transcriber: Transcriber
    synthesizer: Synthesizer
    voices: Voices
    staging: Staging
    sources: Sources
    quotas: Quotas
    draining: asyncio.Event
    """Set once talkies stops."""
    keyring: Keyring | None = None
    """None where everyone may do everything."""

    def dialect(self, model: str) -> Dialect:
        """How to answer who asked under this model name."""
        return dialect.spoken(self.settings.dialect, is_slug=model in self.registry, name=model)
