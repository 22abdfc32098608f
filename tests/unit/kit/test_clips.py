"""Which files are reference clips, and what the catalogue makes of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from talkies import families
from talkies.registry import Registry
from talkies.settings import PROJECT, Settings
from talkies.tts.voices import Voice, Voices
from talkies_kit import clips

MODEL = "qwen3-tts-0.6b"
PART = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda part: part.isprintable() and not part.startswith(".") and len(part.encode()) <= 200
)


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(PART, min_size=1, max_size=4))
def test_a_name_is_the_path_without_its_suffix(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("clips")
    name = "/".join(parts)
    put(folder, f"{name}.wav")
    assert list(clips.scan(folder)) == [name]


def test_siblings(tmp_path: Path) -> None:
    put(tmp_path, "a.wav", "a.txt", "a.lang", "a.b.wav", "a.b.txt", "team/c.wav", "team/a.txt", "loose.txt")
    found = clips.scan(tmp_path)
    assert found == {
        "a": clips.Clip(tmp_path / "a.wav", tmp_path / "a.txt", tmp_path / "a.lang"),
        "a.b": clips.Clip(tmp_path / "a.b.wav", tmp_path / "a.b.txt", None),
        "team/c": clips.Clip(tmp_path / "team" / "c.wav", None, None),
    }


def test_what_is_no_clip(tmp_path: Path) -> None:
    put(tmp_path, "a.mp3", ".hidden.wav", "._a.wav", ".git/a.wav", ".wav", "line\nbreak.wav", "b.wav/c.txt")
    os.mkfifo(tmp_path / "pipe.wav")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))).touch()
    assert clips.scan(tmp_path) == {}
    assert clips.scan(tmp_path / "absent") == {}


def test_links(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    put(inside, "real.wav", "other.wav")
    put(outside, "secret.wav", "secret.txt", "in/x.wav")
    for name, target in {
        "out.wav": outside / "secret.wav",
        "relative.wav": Path("../out/secret.wav"),
        "folder": outside,
        "chain.wav": inside / "out.wav",
        "dangling.wav": inside / "nothing.wav",
        "circle.wav": inside / "circle.wav",
        "again.wav": inside / "real.wav",
        "real.txt": outside / "secret.txt",
    }.items():
        (inside / name).symlink_to(target)
    found = clips.scan(inside)
    assert set(found) == {"real", "other", "again"}
    assert found["again"].wav == inside / "real.wav"
    assert found["real"].text is None
    (tmp_path / "alias").symlink_to(inside)
    assert clips.scan(tmp_path / "alias") == found


def test_a_folder_that_begins_like_the_clips_folder_is_outside(tmp_path: Path) -> None:
    put(tmp_path, "voices2/secret.wav")
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "a.wav").symlink_to(tmp_path / "voices2" / "secret.wav")
    assert clips.scan(tmp_path / "voices") == {}


def test_a_users_clip_shadows_the_builtin_one(tmp_path: Path) -> None:
    catalogue = Voices(Settings(data_dir=tmp_path), Registry.load(PROJECT / "models.json", [MODEL]))
    assert catalogue.all() == []  # without the weights nobody speaks
    put(tmp_path / "models" / MODEL, *families.load()["qwen3_tts"].required)
    builtin = [
        Voice("alloy", MODEL, True, "builtin", "en"),
        Voice("echo", MODEL, False, "builtin", "en"),
        Voice("fable", MODEL, False, "builtin", "en"),
    ]
    assert catalogue.all() == builtin
    put(tmp_path / "custom-voices", "alloy.wav", "team-a/jane.wav")
    assert catalogue.all() == [
        Voice("alloy", MODEL, True, "custom", "en"),
        *builtin[1:],
        Voice("team-a/jane", MODEL, False, "custom", "en"),
    ]
    (tmp_path / "custom-voices" / "alloy.wav").unlink()
    assert catalogue.all()[:3] == builtin
