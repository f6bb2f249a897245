"""What the documents name is there, and they speak of this version."""

import re
import tomllib
from pathlib import Path

import pytest

from resumed.store import schema

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
LINKING = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "UPGRADING.md"]


def test_every_file_that_the_architecture_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)`", ARCHITECTURE)
    assert [name for name in named if not (ROOT / "src" / "resumed" / name).exists()] == []


def test_every_place_that_the_architecture_names_is_there() -> None:
    places = re.findall(r"`([\w/]+\.py)::(\w+)`", ARCHITECTURE)
    assert len(places) > 10
    sources = {file: (ROOT / "src" / "resumed" / file).read_text() for file, _ in places}
    assert [one for one in places if not re.search(rf"(?:def|class) {one[1]}\b", sources[one[0]])] == []


def test_every_package_has_its_row_in_the_architecture() -> None:
    rows = set(re.findall(r"^\| `(\w+)/` \|", ARCHITECTURE, re.MULTILINE))
    packages = {path.parent.name for path in (ROOT / "src" / "resumed").glob("*/__init__.py")}
    assert rows == packages


def test_a_walk_names_no_file_twice() -> None:
    section = re.split(r"^## ", ARCHITECTURE.partition("## Five walks")[2], flags=re.MULTILINE)[0]
    walks = re.split(r"^### ", section, flags=re.MULTILINE)[1:]
    assert len(walks) == 5
    for walk in walks:
        named = re.findall(r"`([\w/]+\.py)`", walk)
        assert len(named) == len(set(named)), walk


def test_the_newest_section_of_the_changelog_is_this_version() -> None:
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[:2] == ["Unreleased", VERSION]


def test_the_table_of_compatibility_names_this_version_and_its_schema() -> None:
    release, needs = VERSION.rpartition(".")[0], schema.SCHEMA_VERSION
    text = (ROOT / "UPGRADING.md").read_text()
    assert f"\n| {release} | {needs} | any with `compatible_from` ≤ {needs} |" in text
    assert f"\n| {needs} | {schema.COMPATIBLE_FROM} |" in text


def test_an_image_is_tagged_as_this_version() -> None:
    assert f"docker build -t resumed:{VERSION} ." in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", [*LINKING, *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_a_link_to_a_file_leads_there(name: str) -> None:
    path = ROOT / name
    links = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", path.read_text())
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []
