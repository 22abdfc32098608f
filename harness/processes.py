"""The processes below a running talkies."""

from __future__ import annotations

import psutil


def descendants(pid: int) -> list[psutil.Process]:
    """The living processes below `pid`, itself not among them; none when it has ended."""
    try:
        found = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process for process in found if is_alive(process.pid)]


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def name_of(process: psutil.Process) -> str:
    """The Triton model that the process serves, "tritonserver", or "talkies". Raises psutil.NoSuchProcess."""
    command = process.cmdline()
    for part in command:
        if part.endswith("/model.py"):
            return part.split("/")[-3]
    return "tritonserver" if command and command[0].endswith("/tritonserver") else "talkies"


def named(pid: int, name: str) -> list[int]:
    """The processes of that name below `pid`."""
    found = []
    for process in descendants(pid):
        try:
            if name_of(process) == name:
                found.append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def resident(pid: int) -> float:
    """Resident MB of a process. Raises psutil.NoSuchProcess."""
    return float(psutil.Process(pid).memory_info().rss) / (1 << 20)


def memory(pid: int) -> dict[str, float]:
    """Resident MB of `pid` and of the processes below it by name; what ends meanwhile is left out."""
    found: dict[str, float] = {}
    for process in [psutil.Process(pid), *descendants(pid)]:
        try:
            name = name_of(process)
            found[name] = found.get(name, 0.0) + float(process.memory_info().rss) / (1 << 20)
        except psutil.NoSuchProcess:
            continue
    return found
