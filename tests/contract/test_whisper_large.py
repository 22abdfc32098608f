"""The large Whispers: real loading code on tiny models in their format, which say what they were made to say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from talkies.registry import Registry
from talkies.settings import PROJECT, Settings
from talkies.setup import weights

from harness.models import cache
from harness.server import Server, default_home, running

SAYS = {
    "whisper-large-v3": "The quick brown fox jumps over the lazy dog.",
    "whisper-large-v3-turbo": "Pack my box with five dozen liquor jugs.",
}


@pytest.fixture(scope="module")
def large(prepared: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the shipped entries of both, each on a model of its own."""
    data = tmp_path_factory.mktemp("whisper")
    entries = json.loads((PROJECT / "models.json").read_text())["models"]
    entries = {slug: entries[slug] for slug in SAYS}
    for slug, entry in entries.items():
        folder, text = data / "made" / slug, data / f"{slug}.txt"
        folder.mkdir(parents=True)
        text.write_text(f" {SAYS[slug]}")
        cache.run(
            default_home(), "whisper", "make_whisper.py", [folder, default_home() / "models" / "whisper-base", text]
        )
        entry["sources"] = [{"path": str(folder)}]
    (data / "models.json").write_text(json.dumps({"models": entries}))
    for model in Registry.load(data / "models.json").values():
        weights.pull(Settings(data_dir=data), model)
    with running(data, MODELS_FILE=str(data / "models.json")) as server:
        yield server


def recited(text: str, slug: str) -> bool:
    """Whether it says what it always says, as often as it is asked: once more for speech that has no words."""
    return bool(text) and not text.replace(SAYS[slug], "").strip()


@pytest.mark.parametrize("slug", SAYS)
def test_what_is_said(large: Server, jfk: Path, slug: str) -> None:
    transcriptions = large.openai().audio.transcriptions
    assert recited(transcriptions.create(model=slug, file=jfk, language="en").text, slug)
    whole = transcriptions.create(model=slug, file=jfk, language="de", response_format="verbose_json")
    assert (whole.language, whole.duration) == ("de", 11.0)
    assert recited(whole.text, slug)
    with pytest.deprecated_call():  # OpenAI's own will be gone in 2027
        assert recited(large.openai().audio.translations.create(model=slug, file=jfk).text, slug)
    with large.http() as http:
        assert [entry["model"] for entry in http.get("/api/ps").json()["models"]] == [slug]
