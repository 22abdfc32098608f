"""The image, built once for all tests of it; where that cannot be done they are skipped, and say why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from talkies.settings import PROJECT

from harness.containers import Engine, Unusable
from harness.server import default_home

HERE = Path(__file__).parent
BASE, IMAGE = "localhost/debian:bookworm-slim", "localhost/talkies:test"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.image)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    try:
        made = Engine(tmp_path_factory.mktemp("containers"))
        made.base(HERE / "base-image", BASE)
    except Unusable as error:
        pytest.skip(str(error))
    return made


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The tag of the image of this checkout, for the CPU."""
    engine.build(PROJECT, IMAGE, BASE_IMAGE=BASE)
    return IMAGE


@pytest.fixture(scope="session")
def weights(prepared: None) -> Path:
    """The folder of this machine's weights: containers need not fetch them again, and may only read them."""
    return default_home() / "models"


@pytest.fixture(scope="session")
def socket(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of podman's service, which speaks docker's protocol."""
    address = f"unix://{tmp_path_factory.mktemp('socket')}/podman.sock"
    with engine.service(address):
        yield address
