"""Which language a file is in, from all of its chunks so far. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

CERTAIN = 0.5
"""Mean probability from which on a file's language stands."""
FILES = 1024
"""Files remembered; the one least recently heard of goes."""


@dataclass(slots=True)
class _File:
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    settled: str = ""


class Evidence:
    """Remembers files, by what is theirs alone, so that a language does not change from chunk to chunk."""

    def __init__(self) -> None:
        self._files: OrderedDict[Hashable, _File] = OrderedDict()

    def add(self, file: Hashable, probabilities: Mapping[str, float], seconds: float) -> None:
        """Count what a chunk of so many seconds sounds like."""
        known = self._files.setdefault(file, _File())
        self._files.move_to_end(file)
        while len(self._files) > FILES:
            self._files.popitem(last=False)
        known.seconds += seconds
        for language, probability in probabilities.items():
            known.sums[language] = known.sums.get(language, 0.0) + probability * seconds

    def language(self, file: Hashable) -> str:
        """The likeliest language of a file of which `add` has heard; it stands from now on if it is CERTAIN."""
        known = self._files[file]
        if known.settled:
            return known.settled
        best = max(known.sums, key=lambda language: known.sums[language])
        if known.sums[best] >= CERTAIN * known.seconds:
            known.settled = best
        return best

    def forget(self, files: Iterable[Hashable]) -> None:
        """Of these no more chunks will come."""
        for file in files:
            del self._files[file]
