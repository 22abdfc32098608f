"""Who may import whom in the facade: docs/architecture.md shows it, and this holds it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import talkies
from talkies.settings import PROJECT

PACKAGE = Path(talkies.__file__).parent
FACTS = "facts"
"""The modules that lie in no room."""
MAY_IMPORT: dict[str, set[str]] = {
    FACTS: set(),
    "setup": {FACTS},
    "files": {FACTS},
    "engines": {FACTS, "setup"},
    "asr": {FACTS, "setup", "engines"},
    "tts": {FACTS, "setup", "engines"},
    "api": {FACTS, "files", "engines", "asr", "tts"},
    "cli": {FACTS, "setup", "engines", "root"},
    "root": {FACTS, "setup", "files", "engines", "asr", "tts", "api"},
    "entry": {"cli"},
}
ROOTS = {"serve": "root", "__main__": "entry"}
"""What puts the rooms together, and what `python -m talkies` runs."""
ONLY_IN_TRITON = {"grpc", "tritonclient"}
"""Everything that is gRPC; the repository is written in its messages."""
SPEAK_GRPC = {"engines.connection", "engines.triton", "engines.repository"}


def room_of(module: str) -> str:
    """The room of a module of the package, named without the package."""
    first = module.partition(".")[0]
    return first if (PACKAGE / first).is_dir() else ROOTS.get(first, FACTS)


def imported(source: str) -> Iterator[str]:
    """The modules that a source imports, also inside functions, names included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward(module: str, source: str) -> list[str]:
    """What `module` imports and may not."""
    room = room_of(module)
    ours = [name.removeprefix("talkies.") for name in imported(source) if name.startswith("talkies.")]
    wrong = [name for name in ours if name != "__version__" and room_of(name) not in {room, *MAY_IMPORT[room]}]
    foreign = {name.partition(".")[0] for name in imported(source)} & ONLY_IN_TRITON
    return wrong + sorted(foreign if module not in SPEAK_GRPC else ())


MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_what_its_room_may(module: str) -> None:
    assert not upward(module, MODULES[module].read_text())


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("asr.plan", "from talkies.tts.voices import Voices", ["tts.voices.Voices"]),
        ("files.staging", "def f():\n    from talkies.engines import triton", ["engines.triton"]),
        ("settings", "import talkies.setup.weights", ["setup.weights"]),
        ("engines.residency", "from talkies import serve", ["serve"]),
        ("engines.residency", "from talkies import __version__, metrics", []),
        ("tts.synthesizer", "from tritonclient.grpc.aio import InferenceServerClient", ["tritonclient"]),
        ("cli.main", "from talkies import serve as serving", []),
    ],
)
def test_a_planted_import_is_found(module: str, source: str, wrong: list[str]) -> None:
    assert upward(module, source) == wrong


def test_every_room_has_rules() -> None:
    assert {room_of(module) for module in MODULES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", sorted(PROJECT.glob("tests/**/*.py")), ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_test_module_imports_another(path: Path) -> None:
    """What they share is in harness/ or a conftest."""
    assert not [name for name in imported(path.read_text()) if name.startswith("tests.") and ".test_" in name]
