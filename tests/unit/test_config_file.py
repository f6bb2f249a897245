"""The settings file that comes with the project: every setting, at its default, with its reason."""

import os
import re
import tomllib
from pathlib import Path

import pytest

from resumed.config.settings import Settings, load_settings

FILE = Path(__file__).parents[2] / "config" / "resumed.toml"
SETTING = re.compile(r"#(\w+ = .+)")
IN_FILES = ("database_url", "console_token", "webhook_url", "webhook_secret")


@pytest.fixture(autouse=True)
def _an_empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith(("RESUMED_", "PG"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def lines() -> list[str]:
    return FILE.read_text(encoding="utf-8").splitlines()


def settings() -> dict[str, str]:
    """Every commented setting: its name, and its line without the comment sign."""
    found = [match[1] for line in lines() if (match := SETTING.fullmatch(line))]
    return {line.partition(" = ")[0]: line for line in found}


def reasons() -> dict[str, str]:
    """The prose that stands above each setting, back to the blank line before it."""
    found, prose = {}, ""
    for line in lines():
        if match := SETTING.fullmatch(line):
            found[match[1].partition(" = ")[0]] = prose
        prose = f"{prose} {line[2:]}" if line.startswith("# ") else ""
    return found


def uncommented(without: set[str], **instead: str) -> Path:
    """Write the file as a person would who takes away every comment sign but those of `without`."""
    chosen = {**settings(), **{name: f'{name} = "{value}"' for name, value in instead.items()}}
    path = Path("chosen.toml")
    path.write_text("\n".join(line for name, line in chosen.items() if name not in without), encoding="utf-8")
    return path


def test_it_holds_every_setting_once_and_nothing_else() -> None:
    names = [match[1].partition(" = ")[0] for line in lines() if (match := SETTING.fullmatch(line))]
    assert sorted(names) == sorted(Settings.model_fields)
    assert tomllib.loads(FILE.read_text(encoding="utf-8")) == {}


def test_uncommented_it_loads_and_says_the_defaults() -> None:
    loaded = load_settings(uncommented({f"{name}_file" for name in IN_FILES})).settings
    defaults = {name: field.default for name, field in Settings.model_fields.items() if field.default is not None}
    assert {name: getattr(loaded, name) for name in defaults} == defaults


def test_a_secret_may_come_from_the_file_that_it_names_instead(tmp_path: Path) -> None:
    examples = tomllib.loads("\n".join(settings()[name] for name in IN_FILES))
    for name, value in examples.items():
        tmp_path.joinpath(name).write_text(f"{value}\n", encoding="utf-8")
    instead = {f"{name}_file": str(tmp_path / name) for name in IN_FILES}
    loaded = load_settings(uncommented(set(IN_FILES), **instead)).settings
    assert {name: getattr(loaded, name).get_secret_value() for name in IN_FILES} == examples


def test_every_setting_has_its_reason_and_says_where_there_is_no_default() -> None:
    assert all(20 < len(reason) < 400 for reason in reasons().values()), reasons()
    without = {name for name, reason in reasons().items() if reason.lstrip().startswith("No default")}
    assert without == {name for name, field in Settings.model_fields.items() if field.default is None}
