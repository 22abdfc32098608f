"""Fetches and finds the weights of models.

    models/<slug>            a symlink into .store or to a local path source, or a folder that a person filled
    models/.store/<key>      one complete download; slugs of the same repository, revision and sources share it
    models/.store/<key>.new  what a running or interrupted pull has so far

A download's manifest is written last and names every file with its size, so that looking costs a few stats.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import huggingface_hub
from filelock import FileLock
from huggingface_hub.utils.tqdm import tqdm
from pydantic import TypeAdapter

from talkies import refusals
from talkies.errors import StartupError
from talkies.registry import Archive, HubSource, IndexSource, Model, PathSource, Source
from talkies.settings import Settings
from talkies.setup import manifest, package_index
from talkies.setup.package_index import FetchError, Report

_BLOCK = 1 << 20
_HUB_TIMEOUT = 5.0
"""Seconds the hub has to answer, so that a network without it goes on to the next source."""
_SOURCES: TypeAdapter[tuple[Source, ...]] = TypeAdapter(tuple[Source, ...])
_SMALL_FILES = ("*.json", "*.txt", "*.jinja")
"""What is taken of a dependency: an engine needs its tokenizer and configuration, never its weights."""


def folder(settings: Settings, model: Model) -> Path:
    """Where the model's weights are, or will be."""
    own, *shared = _places(settings, model)
    return own if own.exists() else next((place for place in shared if place.is_dir()), own)


def missing(settings: Settings, model: Model) -> list[str]:
    """Names of the files that the model needs and that are not there; cheap enough for every load."""
    return _missing(folder(settings, model), model)


def damaged(settings: Settings, model: Model, *, all_files: bool = False) -> list[str]:
    """Names of the files that are not what was fetched; see `manifest.damaged`. Those that nothing is known of are not
    looked at: of a local path, or of a folder that a person filled. Raises OSError."""
    return manifest.damaged(folder(settings, model), all_files=all_files)


def pull(
    settings: Settings, model: Model, progress: Report = lambda name, done, total: None, *, verify: bool = False
) -> None:
    """Fetch the model's weights from the first of its sources that has them; no work when they are complete.

    `verify` reads them all and fetches those anew that are damaged. An interrupted pull goes on where it was; of two at
    the same time one waits for the other. Raises StartupError that gives every source's reason.
    """
    for place in _places(settings, model):
        if _is_what_is_asked(place, model) and not (verify and manifest.damaged(place, all_files=True)):
            return  # without the lock: where they are it may be that nobody can write
    target = _places(settings, model)[0]
    store = target.parent / ".store"
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusals.sentence(error) from None
    key = _key(model)
    with FileLock(store / f"{key}.lock"):
        if target.is_dir() and not target.is_symlink():
            if absent := _missing(target, model):
                raise StartupError(f"{target} is not complete (it lacks {', '.join(absent)}); complete or remove it.")
            return
        reasons = []
        for source in model.sources:
            try:
                if isinstance(source, PathSource):
                    _link(target, _local(source, model))
                else:
                    if verify and manifest.damaged(store / key, all_files=True):
                        shutil.rmtree(store / key)
                    _download(source, model, store / key, progress)
                    _link(target, Path(".store") / key)
                return
            except FetchError as error:
                reasons.append(str(error))
    raise StartupError(f"The weights of {model.slug} could not be fetched: {'; '.join(reasons)}.")


def _places(settings: Settings, model: Model) -> list[Path]:
    """Where the weights may be; what is fetched goes to the first."""
    roots = filter(None, (settings.data_dir / "models", settings.weights_dir))
    return [root / model.slug for root in roots]


def _is_what_is_asked(place: Path, model: Model) -> bool:
    """Whether the folder is complete, and that of the source which a pull would take."""
    if place.is_dir() and not place.is_symlink():
        return not _missing(place, model)
    for source in model.sources:
        wanted = Path(".store") / _key(model)
        if isinstance(source, PathSource):
            try:
                wanted = _local(source, model)
            except FetchError:
                continue
        return place.is_symlink() and place.readlink() == wanted and not _missing(place, model)
    return False


def _missing(place: Path, model: Model) -> list[str]:
    if (entries := manifest.read(place)) is None:
        return [pattern for pattern in model.executor.required if not any(place.glob(pattern))]
    return [name for name, entry in entries.items() if not _has_size(place / name, entry["size"])]


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _key(model: Model) -> str:
    """The name of the download. It holds the sources' hash: when models.json asks for other files, they are fetched."""
    asked = _SOURCES.dump_python(model.sources, mode="json", exclude_defaults=True)
    what = json.dumps([asked, dict(model.sha256), model.dependencies], sort_keys=True)
    digest = hashlib.sha256(what.encode()).hexdigest()[:8]
    return f"{model.repo}@{model.revision}".replace("/", "--") + f"-{digest}"


def _link(target: Path, place: Path) -> None:
    """Point models/<slug> at `place`, in one step, and drop the download that no slug uses any more."""
    old = target.readlink() if target.is_symlink() else None
    if old == place:
        return
    new = target.with_name(f".{target.name}.link")
    new.unlink(missing_ok=True)
    new.symlink_to(place)
    new.replace(target)
    links = [path.readlink() for path in target.parent.iterdir() if path.is_symlink()]
    if old and old.parent == Path(".store") and old not in links:
        shutil.rmtree(target.parent / old, ignore_errors=True)


def _local(source: PathSource, model: Model) -> Path:
    place = source.path.expanduser().absolute()
    if not place.is_dir():
        raise FetchError(f"{place} is no folder")
    if absent := [pattern for pattern in model.executor.required if not any(place.glob(pattern))]:
        raise FetchError(f"{place} lacks {', '.join(absent)}")
    return place


def _download(source: HubSource | IndexSource, model: Model, place: Path, progress: Report) -> None:
    """Make the complete download at `place`, which is there as a whole or not at all."""
    if place.is_dir() and not _missing(place, model):
        return
    work = place.with_name(f"{place.name}.new")
    files = work / "files"
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True)
    try:
        if isinstance(source, IndexSource):
            _from_index(source, work, files, progress)
        else:
            _from_hub(source, model, work, files, progress)
        _verify(model, files)
    except OSError as error:
        raise FetchError(f"{error.strerror or error} ({error.filename or work})") from None
    if absent := [pattern for pattern in model.executor.required if not any(files.glob(pattern))]:
        raise FetchError(f"{model.repo} lacks {', '.join(absent)}")
    try:
        manifest.write(files)
    except OSError as error:
        raise FetchError(f"{error.strerror} ({error.filename or work})") from None
    shutil.rmtree(place, ignore_errors=True)
    files.rename(place)
    shutil.rmtree(work)


def _verify(model: Model, files: Path) -> None:
    for name, expected in model.sha256.items():
        if not (files / name).is_file():
            raise FetchError(f"{name} is not among the files")
        if (found := manifest.sha256(files / name)) != expected:
            raise FetchError(f"{name} was refused: its sha256 is {found}, not {expected}")


# --- package index ---------------------------------------------------------------------------------------------------
def _from_index(source: IndexSource, work: Path, files: Path, progress: Report) -> None:
    for archive in source.index:
        package_index.download(archive.file, archive.sha256, work / archive.file, progress)
    for archive in source.index:
        _take(archive, work / archive.file, files)


def _take(archive: Archive, path: Path, files: Path) -> None:
    """Append the archive's members to their files; names come from models.json, never from the archive's paths."""
    with _members(path) as members:
        for name, pattern in archive.take.items():
            found = [member for member in members if fnmatch.fnmatchcase(member, pattern)]
            if not found:
                raise FetchError(f"{archive.file} holds no {pattern}")
            for member in found:
                out = files / name / PurePosixPath(member).name if name.endswith("/") else files / name
                out.parent.mkdir(parents=True, exist_ok=True)
                with members[member]() as data, out.open("ab") as stream:
                    shutil.copyfileobj(data, stream, _BLOCK)


@contextmanager
def _members(path: Path) -> Iterator[Mapping[str, Callable[[], IO[bytes]]]]:
    """The regular files of a wheel or sdist: name -> how to open it. Links and devices are left out."""
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                yield {item.filename: partial(wheel.open, item) for item in wheel.infolist() if not item.is_dir()}
        else:
            with tarfile.open(path) as sdist:
                regular = [item for item in sdist if item.isreg()]
                yield {item.name: cast(Callable[[], IO[bytes]], partial(sdist.extractfile, item)) for item in regular}
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise FetchError(f"{path.name} cannot be unpacked: {error}") from None


# --- Hugging Face hub ------------------------------------------------------------------------------------------------
def _from_hub(source: HubSource, model: Model, work: Path, files: Path, progress: Report) -> None:
    """Everything is downloaded before anything is moved: the client keeps its state in `work` and goes on there."""
    repo = source.repo or model.repo
    revision = source.revision or (model.revision if repo == model.repo else "main")
    fetched = _snapshot(repo, revision, source.hub, work / "hub", progress)
    fetched = {source.rename.get(name, name): path for name, path in fetched.items()}
    for dependency in model.dependencies:
        short = dependency.rpartition("/")[2]
        small = _snapshot(dependency, "main", _SMALL_FILES, work / f"hub-{short}", progress)
        fetched |= {f"{short}/{name}": path for name, path in small.items()}
    for name, path in fetched.items():
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        path.rename(files / name)


def _snapshot(repo: str, revision: str, patterns: tuple[str, ...], scratch: Path, progress: Report) -> dict[str, Path]:
    """Download the repository's files that match: name there -> where it is now.

    Not `snapshot_download`: without a network that takes whatever an interrupted one has left for the whole.
    """
    try:
        info = huggingface_hub.HfApi().model_info(repo, revision=revision, timeout=_HUB_TIMEOUT)
        names = [item.rfilename for item in info.siblings or ()]
        return {
            name: Path(
                huggingface_hub.hf_hub_download(
                    repo,
                    name,
                    revision=info.sha,
                    local_dir=scratch,
                    etag_timeout=_HUB_TIMEOUT,
                    tqdm_class=_bar(name, progress),
                )
            )
            for name in names
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        }
    except Exception as error:  # which transport library the client uses, and so its errors, depends on its version
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise FetchError(f"the Hugging Face hub gave no {repo} ({reason.rstrip('.')})") from None


def _bar(name: str, progress: Report) -> type[tqdm]:
    """The hub client's progress bar, drawn nowhere: it tells `progress`."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "file": io.StringIO(), "disable": False})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)
            progress(name, int(self.n), int(self.total or 0))
            return drawn

    return Bar
