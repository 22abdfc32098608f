"""What a script that uses a client prints for the tests: one JSON object. Runs in the environments of the clients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version


def show(
    *packages: str,
    transcripts: Mapping[str, str] | None = None,
    speeches: Mapping[str, str] | None = None,
    facts: Mapping[str, object] | None = None,
) -> None:
    """Texts of the recording and files of the spoken sentence by their calls; other things that came back by name."""
    print(
        json.dumps(
            {
                "versions": {package: version(package) for package in packages},
                "transcripts": transcripts or {},
                "speeches": speeches or {},
                "facts": facts or {},
            }
        )
    )
