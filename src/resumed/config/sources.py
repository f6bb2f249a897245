"""Owns where settings are read from: flags, environment, a TOML file, files that hold secrets. Judges no value."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic_settings import BaseSettings, EnvSettingsSource, TomlConfigSettingsSource

from resumed import timings
from resumed.errors import SettingsError
from resumed.observability.redaction import mask_secrets

PREFIX = "RESUMED_"

_LONGEST_SECRET = 65_536
_LONGEST_SHOWN = 120
_SERVICE_ADDRESS = re.compile(r"\s*(?:tcp|udp|sctp)://", re.IGNORECASE)
_SERVICE_NAME = re.compile(
    rf"{PREFIX}(?:SERVICE_.*|PORT(?:_.*)?|\w+_SERVICE_HOST|\w+_SERVICE_PORT(?:_\w+)?|\w+_PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)",
)


@dataclass(frozen=True, slots=True)
class Found:
    """A value as it was written; `source` is the kind of place, `name` what the setting is called there."""

    value: object
    source: str
    name: str


Layer = dict[str, Found]


def flags_layer(given: Mapping[str, object]) -> Layer:
    """Take what the command line says."""
    return {name: Found(value, "command line", f"--{name.replace('_', '-')}") for name, value in given.items()}


def environment_layer(settings: type[BaseSettings]) -> Layer:
    """Read the environment; a blank value is none, and what Kubernetes injects for a Service is not meant for us."""
    source = EnvSettingsSource(settings, env_prefix=PREFIX)
    source.env_vars = {name: value for name, value in source.env_vars.items() if _is_meant(value)}
    return {name: Found(value, "environment", f"{PREFIX}{name.upper()}") for name, value in source().items()}


def _is_meant(value: str | None) -> bool:
    """Say whether a value was written by a person."""
    return bool(value and value.strip()) and not _SERVICE_ADDRESS.match(value or "")


def unknown_in_environment(settings: type[BaseSettings]) -> tuple[str, ...]:
    """One sentence for each variable with our prefix that is no setting; never its value."""
    known = {timings.VARIABLE, *(f"{PREFIX}{name}".upper() for name in settings.model_fields)}
    unknown = [
        name
        for name, value in sorted(os.environ.items())
        if name.upper().startswith(PREFIX) and name.upper() not in known
        if _is_meant(value) and not _SERVICE_NAME.fullmatch(name.upper())
    ]
    return tuple(f"{name} is no setting and has no effect{_nearest(name, settings, PREFIX)}" for name in unknown)


def _nearest(name: str, settings: type[BaseSettings], prefix: str = "") -> str:
    """Suggest the setting that was probably meant, as it is written where the prefix is."""
    bare = name.lower().removeprefix(PREFIX.lower())
    matches = difflib.get_close_matches(bare, list(settings.model_fields), n=1)
    meant = f"{prefix}{matches[0]}" if matches else ""
    return f", did you mean {meant.upper() if prefix else meant}?" if meant else ""


def file_layer(settings: type[BaseSettings], path: Path) -> Layer:
    """Read a TOML file; raise SettingsError where it cannot be read or names what is no setting."""
    values = _toml(settings, path)
    for name in values:
        if name not in settings.model_fields:
            raise SettingsError(f"{path}: {shown_value(name)} is no setting{_nearest(name, settings) or ', remove it'}")
    return {name: Found(value, f"file {path}", f"{name} in {path}") for name, value in values.items()}


def _toml(settings: type[BaseSettings], path: Path) -> dict[str, object]:
    """Read the names and values of a file, whatever they are."""
    try:
        if not path.is_file():
            fault = "is not a file" if path.exists() else "does not exist"
            raise SettingsError(f"the settings file {shown_value(path)} {fault}, correct --config")
        return TomlConfigSettingsSource(settings, toml_file=path).toml_data
    except OSError as error:
        fault = f"cannot be read ({error.strerror}), correct --config or its permissions"
        raise SettingsError(f"the settings file {shown_value(path)} {fault}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        fault = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it is not UTF-8"
        raise SettingsError(f"the settings file {shown_value(path)} is not TOML, correct it: {fault}") from None


def combine_layers(layers: Iterable[Layer], secrets: Iterable[str]) -> Layer:
    """Lay the sources over each other, the strongest first; a secret's `_file` counts as the secret itself."""
    combined: Layer = {}
    for layer in layers:
        settled = {name for secret in secrets if secret in combined for name in (secret, f"{secret}_file")}
        weaker = {name: found for name, found in layer.items() if name not in settled}
        read = {secret: found for secret in secrets if (found := _from_file(weaker, secret))}
        combined = {**weaker, **read, **combined}
    return combined


def _from_file(layer: Layer, secret: str) -> Found | None:
    """Read the file that holds a secret, where the layer names one; raise SettingsError where it also holds another."""
    pointer = layer.get(f"{secret}_file")
    if pointer is None:
        return None
    if secret in layer:
        raise SettingsError(f"{layer[secret].name} and {pointer.name} are both set, remove one of them")
    return Found(_contents(pointer), f"file {pointer.value}", pointer.name)


def _contents(pointer: Found) -> str:
    """Read a file that holds a secret, without the white space around it."""
    try:
        with Path(str(pointer.value)).open(encoding="utf-8") as handle:
            contents = handle.read(_LONGEST_SECRET).strip()
    except (OSError, ValueError) as error:
        fault = error.strerror if isinstance(error, OSError) else "it is not a text file"
        sentence = f"{pointer.name} names a file that cannot be read, {shown_value(pointer.value)}: {fault}"
        raise SettingsError(sentence) from None
    if not contents:
        raise SettingsError(
            f"{pointer.name} names an empty file, {shown_value(pointer.value)}: write the secret into it"
        )
    return contents


def shown_value(value: object) -> str:
    """Quote a value in a message: one line, cut, with what looks like a secret masked."""
    text = mask_secrets(str(value))
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")
