"""The documentation agrees with the code and with itself."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from talkies import settings_page
from talkies.metrics import Metrics
from talkies.registry import Model
from talkies.settings import PROJECT, Settings

from harness.facade import facade

PAGES = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").glob("*.md"))]


def test_the_configuration_page_is_that_of_the_settings() -> None:
    assert settings_page.PAGE.read_text(encoding="utf-8") == settings_page.page(), (
        "run .venv/bin/python -m talkies.settings_page"
    )


def test_every_setting_has_a_meaning_and_every_heading_a_setting() -> None:
    assert all(info.description for info in Settings.model_fields.values())
    assert set(settings_page._GROUPS) <= set(Settings.model_fields)
    assert next(iter(Settings.model_fields)) in settings_page._GROUPS


def _anchor(heading: str) -> str:
    """As code hosting sites derive it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.M)
            assert anchor in {_anchor(heading) for heading in headings}, target


async def test_every_route_is_documented(tmp_path: Path) -> None:
    api = (PROJECT / "docs" / "http-api.md").read_text(encoding="utf-8")
    async with facade(tmp_path / "data") as made:
        paths = made.app.openapi()["paths"]
    for path, methods in paths.items():
        shown = re.sub(r"\{[^}]*\}", "{}", path)
        for method in methods:
            wanted = f"{method.upper()} {shown}"
            assert wanted in re.sub(r"\{[^}]*\}", "{}", api), wanted


def test_every_metric_is_documented() -> None:
    operations = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
    families = [family.name for family in Metrics(()).registry.collect() if family.name.startswith("talkies_")]
    assert families
    shown = set(re.findall(r"`(talkies_\w+)`", operations))
    assert [name for name in families if not shown & {name, f"{name}_total", f"{name}_info"}] == []


def test_every_field_of_the_registry_is_documented() -> None:
    models = (PROJECT / "docs" / "models.md").read_text(encoding="utf-8")
    names = [field.name for field in dataclasses.fields(Model) if field.name != "slug"]
    assert [name for name in names if f"`{name}`" not in models] == []
