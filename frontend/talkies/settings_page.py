"""docs/configuration.md out of the Settings class: `python -m talkies.settings_page` writes it anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from talkies.settings import PROJECT, Settings

PAGE = PROJECT / "docs" / "configuration.md"

_GROUPS = {
    "host": "Addresses and tritonserver",
    "auth_token": "Access",
    "data_dir": "Files and models",
    "device": "Engines, memory, queues and deadlines",
    "max_upload_bytes": "Limits",
    "vad_chunk_threshold": "Cutting long audio",
    "log_content": "Log",
}
"""Headings, each before the setting that comes first under it; the order is that of the class."""

_INTRODUCTION = """\
# Configuration

<!-- Made by `python -m talkies.settings_page` from frontend/talkies/settings.py: change it there. -->

Every setting is an environment variable of the server, read once at the start. An empty variable counts as not set.
Seconds may be written `90`, `1m30s` or `3h`; lists are comma-separated; switches are `true` or `false`. A value that
cannot be right stops the start with one sentence that names the variable.

The client's commands read `TALKIES_URL` and `TALKIES_AUTH_TOKEN` (of several tokens the first), `talkies bulk` besides
`TALKIES_MODEL`, `TALKIES_FORMAT`, `TALKIES_OUTDIR`, `TALKIES_LANGUAGE` and `TALKIES_DIARIZE`; `--help` describes them.
"""


def page() -> str:
    """The whole page."""
    lines = [_INTRODUCTION]
    for name, info in Settings.model_fields.items():
        if heading := _GROUPS.get(name):
            lines += [f"\n## {heading}\n\n| variable | default | meaning |\n|---|---|---|\n"]
        lines += [f"| `TALKIES_{name.upper()}` | {_default(info)} | {_cell(info.description or '')} |\n"]
    return "".join(lines)


def _default(info: FieldInfo) -> str:
    value: Any = info.default.get_secret_value() if isinstance(info.default, SecretStr) else info.default
    match value:
        case bool():
            return f"`{str(value).lower()}`"
        case None | "" | ():
            return "none"
        case Path() if value.is_relative_to(PROJECT):
            return f"`{value.relative_to(PROJECT)}` of the checkout"
        case Path():
            return f"`./{value}`"
        case float():
            return f"`{value:g}`"
        case _:
            return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
