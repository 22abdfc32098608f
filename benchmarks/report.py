"""The figures as a table with ratios."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

QUIET = 0.8
"""Load average up to which nothing else counts as running."""


def show(figures: dict[str, Any]) -> None:
    """Print the table; its last column says what talkies aims at and whether this run met it."""
    about, whisper, kokoro, server = (figures[name] for name in ("about", "whisper", "kokoro", "server"))
    console = Console(width=None if Console().is_terminal else 120)
    console.print(
        f"{about['command']}\n{about['cpu']}, {about['cores']} cores, load at start {about['load']:.1f}; "
        f"audio: {about['audio']}",
        markup=False,
        highlight=False,
    )
    if about["load"] > QUIET:
        console.print("The machine was busy with other work: these ratios say little.", style="bold red")
    best = min(whisper["long"], key=whisper["long"].get)
    long, length = whisper["long"][best], figures["long_seconds"]
    table = Table(title="seconds; smaller is better")
    for heading, justify in (("", "left"), ("library", "right"), ("server", "right"), ("", "right"), ("aim", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for name, took in whisper["long"].items():
        if name != best:
            table.add_row(f"{length / 60:.0f}-minute file, {name}", f"{took:.2f}", "", "", "")
    _row(
        table, f"{length / 60:.0f}-minute file, {best}", long, server["long"], "throughput", long / server["long"], 0.9
    )
    clips = whisper["clips"]
    _row(table, "8 clips: one by one | together", clips, server["clips"], "throughput", clips / server["clips"], 1.0)
    extra = (server["latency"] - whisper["latency"]) * 1000
    _row(table, f"{about['short_seconds']:.1f} s clip", whisper["latency"], server["latency"], "more ms", extra, 60)
    _row(
        table,
        "first audio of a speech",
        kokoro["first"],
        server["first"],
        "times",
        server["first"] / kokoro["first"],
        1.2,
    )
    _row(
        table,
        f"{kokoro['speech']:.0f} s speech",
        kokoro["total"],
        server["total"],
        "times",
        server["total"] / kokoro["total"],
    )
    for name, library, cold in (("whisper", whisper, "cold_asr"), ("kokoro", kokoro, "cold_tts")):
        _row(
            table,
            f"{name} cold, to first result",
            library["cold"],
            server[cold],
            "times",
            server[cold] / library["cold"],
        )
    console.print(table)
    console.print(
        f"words of the long file: {figures['words'][0]} in-process, {figures['words'][1]} through the server; "
        f"they agree to {figures['agreement']:.1%}",
        highlight=False,
    )
    memory = Table(title="resident memory, MB")
    memory.add_column("process")
    memory.add_column("MB", justify="right")
    for name, megabytes in (
        ("whisper in-process, clips only", whisper["rss_short"]),
        ("whisper in-process, peak", whisper["rss_peak"]),
        ("kokoro in-process, peak", kokoro["rss_peak"]),
        *((f"server: {name}", megabytes) for name, megabytes in server["rss"].items()),
    ):
        memory.add_row(name, f"{megabytes:.0f}")
    console.print(memory)


def _row(
    table: Table, name: str, library: float, server: float, unit: str, value: float, aim: float | None = None
) -> None:
    aimed = ""
    if aim is not None:
        at_least = unit == "throughput"
        met = value >= aim if at_least else value <= aim
        aimed = f"{'at least' if at_least else 'at most'} {aim:g}: {'met' if met else 'MISSED'}"
    shown = f"{value:+.0f} {unit}" if unit == "more ms" else f"{value:.2f} {unit}"
    table.add_row(name, f"{library:.2f}", f"{server:.2f}", shown, aimed)
