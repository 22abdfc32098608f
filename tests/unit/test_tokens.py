"""The file of tokens: what it may hold, what is kept in it, and that it is read again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkies import tokens
from talkies.cli import main
from talkies.errors import StartupError
from talkies.tokens import PERMISSIONS, Keyring, Token
from typer.testing import CliRunner

TOKENS = st.builds(
    Token,
    name=st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    sha256=st.binary().map(tokens.sha256),
    scopes=st.frozensets(st.sampled_from(PERMISSIONS)),
    requests_per_minute=st.none() | st.integers(1),
    audio_seconds_per_day=st.none() | st.floats(1, 1e6),
)


@given(st.lists(TOKENS, unique_by=(lambda token: token.name, lambda token: token.sha256)))
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, made: list[Token]) -> None:
    path = tmp_path_factory.mktemp("tokens") / "folder" / "tokens.json"
    tokens.save(path, made)
    assert tokens.load(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["tokens.json"]  # noqa: PTH208


def entry(**fields: object) -> dict[str, object]:
    return {"name": "a", "sha256": "0" * 64, "scopes": [], **fields}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "Invalid JSON"),
        ("[]", "the file"),
        (json.dumps({"tokens": [entry(scopes=["everything"])]}), "tokens.0.scopes"),
        (json.dumps({"tokens": [entry(name="a b")]}), "tokens.0.name"),
        (json.dumps({"tokens": [entry(sha256="secret")]}), "tokens.0.sha256"),
        (json.dumps({"tokens": [entry(rate=1)]}), "tokens.0.rate"),
        (json.dumps({"tokens": [entry(requests_per_minute=0)]}), "requests_per_minute"),
        (json.dumps({"tokens": [entry(), entry(sha256="1" * 64)]}), "the name a is there twice"),
        (json.dumps({"tokens": [entry(), entry(name="b")]}), "the sha256 0"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: str, words: str) -> None:
    (path := tmp_path / "tokens.json").write_text(content)
    with pytest.raises(StartupError, match=words) as refused:
        Keyring((), path)
    assert "\n" not in str(refused.value) and "secret" not in str(refused.value)


def test_no_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="talkies token add"):
        Keyring((), tmp_path / "none.json")


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    one, two = (Token(name=name, sha256=tokens.sha256(name.encode()), scopes=frozenset()) for name in ("one", "two"))
    tokens.save(path, [one])
    keyring = Keyring(["fixed"], path)
    assert keyring.find(b"one") == one and keyring.find(b"two") is None
    tokens.save(path, [one, two])
    assert keyring.find(b"two") == two
    path.write_text("{")
    assert keyring.find(b"two") == two
    tokens.save(path, [two])
    assert keyring.find(b"one") is None
    fixed = keyring.find(b"fixed")
    assert fixed and fixed.scopes == frozenset(PERMISSIONS)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokens.json"
    run = lambda *words: CliRunner().invoke(main.app, ["token", *words])  # noqa: E731
    monkeypatch.delenv("TALKIES_AUTH_FILE", raising=False)
    assert "Set TALKIES_AUTH_FILE" in run("list").output
    monkeypatch.setenv("TALKIES_AUTH_FILE", str(path))
    added = run("add", "phone", "--scope", "speak", "--scope", "transcribe", "--rate", "5", "--audio-seconds", "60")
    secret = added.output.strip()
    assert added.exit_code == 0 and secret not in path.read_text()
    token = Keyring((), path).find(secret.encode())
    assert token and (token.name, sorted(token.scopes)) == ("phone", ["speak", "transcribe"])
    assert "transcribe speak" in run("list").output
    for words in (("add", "phone", "--scope", "speak"), ("add", "b", "--scope", "all"), ("remove", "nobody")):
        failed = run(*words)
        assert failed.exit_code == 1 and "Traceback" not in failed.output
    assert run("remove", "phone").exit_code == 0
    assert tokens.load(path) == []
