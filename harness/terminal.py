"""The command line at a terminal, as another process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def talkies(*args: object) -> list[str]:
    return [sys.executable, "-m", "talkies", *map(str, args)]


class Screen:
    """The far end of a terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.text = ""

    def read_until(self, *found: str) -> None:
        while not all(part in self.text for part in found):
            assert self._read(), self.text

    def read_all(self) -> None:
        while self._read():
            pass

    def shown(self) -> list[str]:
        """The lines that are left on the screen, of what goes up, erases and overwrites."""
        lines, at = [""], 0
        for code, end, text in re.findall(r"(\x1b\[[?0-9;]*[A-Za-z])|([\r\n])|([^\x1b\r\n]+)", self.text):
            if code.endswith("A"):
                at -= int(code[2:-1] or 1)
            elif code == "\x1b[2K":
                lines[at] = ""
            elif end == "\n":
                at += 1
                lines += [""] * (at == len(lines))
            elif text:
                lines[at] += text
        return lines

    def _read(self) -> bool:
        try:
            piece = os.read(self._descriptor, 65536)
        except OSError:  # nobody has it open any more
            return False
        self.text += piece.decode(errors="replace")
        return bool(piece)


@contextmanager
def at_terminal(*args: object, stdout: int | None = None) -> Iterator[tuple[subprocess.Popen[bytes], Screen]]:
    """A command whose standard error is a terminal, and its standard output too unless it is given."""
    ours, theirs = os.openpty()
    out = theirs if stdout is None else stdout
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}

    def listen() -> None:
        """A shell lets what it starts in the background ignore Ctrl-C, and that is inherited."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        talkies(*args), stdin=subprocess.DEVNULL, stdout=out, stderr=theirs, env=environment, preexec_fn=listen
    ) as process:
        os.close(theirs)
        try:
            yield process, Screen(ours)
        finally:
            process.kill()
            os.close(ours)
