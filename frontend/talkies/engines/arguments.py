"""The arguments of a child process, which every user of the machine can read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_START, _END = 45, 46
"""Of /proc/<pid>/stat, counted from behind the process's name: arg_start and arg_end."""


def hide(pid: int, secrets: Sequence[str]) -> None:
    """Write stars over the secrets in the memory from which /proc and ps show the arguments of a child.

    The child must have read them. Raises OSError where the kernel does not let us.
    """
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[_START]), int(fields[_END])
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        shown = memory.read(end - start)
        for secret in filter(None, secrets):
            shown = shown.replace(secret.encode(), b"*" * len(secret.encode()))
        memory.seek(start)
        memory.write(shown)
