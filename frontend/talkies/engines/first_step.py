"""`audio_chunks`, the first step of every ASR ensemble: what is known of its processes."""

from __future__ import annotations

from dataclasses import dataclass

_FAILURES = 3
"""Requests in a row that it may fail in a way that is not theirs, before it is replaced."""


@dataclass(slots=True)
class FirstStep:
    """In one tritonserver after the other."""

    repairs: int = 0
    """How often it was replaced: a late request of a dead process does not condemn its successor."""
    problem: str = ""
    """Why it cannot be used, though Triton calls it ready; empty while nothing is known."""
    failures: int = 0
    server: int = 0
    """The tritonserver, by its pid; another one has loaded it anew."""

    def serves(self, server: int) -> None:
        """Note which tritonserver runs it."""
        if server != self.server:
            self.server, self.problem, self.failures = server, "", 0

    def died(self) -> None:
        self.problem = "a process of audio_chunks has died"

    def failed(self) -> None:
        """Note a request that it could not do and that is not at fault."""
        self.failures += 1
        if self.failures >= _FAILURES:
            self.problem = "audio_chunks fails every request"

    def replaced(self) -> None:
        self.repairs += 1
        self.problem, self.failures = "", 0
