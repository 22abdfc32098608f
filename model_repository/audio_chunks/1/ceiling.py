"""How much memory this process may take: a file must not make it take more than the machine can spare."""

from __future__ import annotations

import resource
from pathlib import Path

MARGIN = 512 << 20
"""Bytes above what the process has when it is ready. The index of the longest film takes a tenth of it; a compressed
header can unpack to gigabytes."""
_PROBE = 32 << 20


def lower() -> None:
    """Let this process have MARGIN more than it has now. A lower limit that somebody has set stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _data() + MARGIN
    if soft == resource.RLIM_INFINITY or limit < soft:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def has_room() -> bool:
    """Whether this process can have memory: what has just been refused was then too much for the ceiling."""
    try:
        bytearray(_PROBE)
    except MemoryError:
        return False
    return True


def _data() -> int:
    """Bytes of private memory, as RLIMIT_DATA counts them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmData":
            return int(value.split()[0]) << 10
    return 0
