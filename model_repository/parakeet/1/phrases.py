"""What a prompt asks the model to listen for. Pure."""

from __future__ import annotations

import re

MAX_PHRASES = 200


def phrases(prompt: str) -> tuple[str, ...]:
    """The names and terms of a prompt, which are written one a line or with commas or full stops between them."""
    parts = (" ".join(part.split()) for part in re.split(r"[,;:\n]|[.?!](?:\s|$)", prompt))
    return tuple(dict.fromkeys(part for part in parts if part))[:MAX_PHRASES]
