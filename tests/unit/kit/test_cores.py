"""How many threads an engine takes, where a container has a share of the cores."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkies_kit.cores import cores

MINE = 64


@pytest.fixture(autouse=True)
def _many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(MINE)))


def tree(folder: Path, membership: str, **files: str) -> tuple[Path, Path]:
    """The two places that are read; a name in `files` is a path with `__` for its slashes."""
    groups = folder / "cgroup"
    groups.mkdir()
    for name, content in files.items():
        path = groups / name.replace("__", "/").replace("cpu_max", "cpu.max").replace("cfs_", "cpu.cfs_")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "membership").write_text(membership)
    return folder / "membership", groups


def version_1(quota: str) -> dict[str, str]:
    return {"cpu,cpuacct__cfs_quota_us": f"{quota}\n", "cpu,cpuacct__cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu_max": "400000 100000\n"}, 4),  # docker, with a namespace of its own
        ("0::/\n", {"cpu_max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu_max": "5000 100000\n"}, 1),
        ("0::/\n", {"cpu_max": "max 100000\n"}, MINE),
        ("0::/pods/a\n", {"pods__a__cpu_max": "max 100000\n", "pods__cpu_max": "300000 100000\n"}, 3),
        ("0::/../../elsewhere\n", {"cpu_max": "200000 100000\n"}, 2),
        ("4:memory:/x\n3:cpu,cpuacct:/x\n0::/x\n", version_1("800000"), 8),
        ("3:cpu,cpuacct:/\n", version_1("-1"), MINE),
        ("0::/\n", {"cpu_max": "nonsense\n"}, MINE),
        ("0::/\n", {}, MINE),
    ],
)
def test_a_quota_bounds_the_cores(tmp_path: Path, membership: str, files: dict[str, str], expected: int) -> None:
    assert cores(*tree(tmp_path, membership, **files)) == expected


def test_without_control_groups_it_is_the_affinity(tmp_path: Path) -> None:
    assert cores(tmp_path / "none", tmp_path) == MINE


@given(quota=st.integers(1, 10**9), period=st.integers(1000, 10**6))
def test_any_quota(tmp_path_factory: pytest.TempPathFactory, quota: int, period: int) -> None:
    folder = tmp_path_factory.mktemp("groups")
    assert cores(*tree(folder, "0::/\n", cpu_max=f"{quota} {period}\n")) == min(MINE, math.ceil(quota / period))


def test_here() -> None:
    assert 1 <= cores() <= MINE
