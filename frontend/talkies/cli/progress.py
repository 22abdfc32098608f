"""What a person sees of files that are transcribed, on a terminal only: a row each, with how much of it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

_WIDEST_NAME = 32


class Rows:
    """A context manager that shows the rows that `row` adds, and one for all `total` files where `overall` says so."""

    def __init__(self, console: Console, total: int, *, overall: bool) -> None:
        self.shown = console.is_terminal
        name = Column(no_wrap=True, overflow="ellipsis", max_width=_WIDEST_NAME)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False, table_column=name),
            BarColumn(),
            TextColumn("{task.fields[done]}", markup=False),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=console, transient=True, disable=not self.shown)
        self._total = total
        self._done = 0
        self._all = self._progress.add_task("Transcribing", total=total, visible=overall, done=f"0/{total}")

    def __enter__(self) -> Rows:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take all of it off the terminal."""
        self._progress.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Takes the rows off the terminal while something else is written to it, which they would overwrite."""
        shown = self._progress.live.is_started
        self._progress.stop()
        yield
        if shown:
            self._progress.start()

    def advance(self) -> None:
        """Count one file that is through."""
        self._done += 1
        self._progress.update(self._all, completed=self._done, done=f"{self._done}/{self._total}")

    @contextmanager
    def row(self, name: str, total: float | None) -> Iterator[Callable[[float], None]]:
        """A row while one file of `total` seconds, if that is known, is transcribed; yields what says how many are."""
        whole = f" of {_clock(total)}" if total else ""
        row = self._progress.add_task("".join(c if c.isprintable() else "_" for c in name), total=total, done="")
        try:
            yield lambda seconds: self._progress.update(row, completed=seconds, done=f"{_clock(seconds)}{whole}")
        finally:
            self._progress.remove_task(row)


def length(path: Path) -> float | None:
    """The seconds of audio that a file says it has; None when it does not, or is no regular file."""
    import av  # which takes long to import

    if not path.is_file():
        return None
    with suppress(av.FFmpegError, OSError), av.open(str(path)) as container:
        return container.duration / av.time_base if container.duration else None
    return None


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
