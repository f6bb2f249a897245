"""Reads settings from flags, the environment, a TOML file and secret files. Validates no value."""

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

_MAX_SECRET_LENGTH = 65_536
_MAX_QUOTED_LENGTH = 120
_SERVICE_ADDRESS = re.compile(r"\s*(?:tcp|udp|sctp)://", re.IGNORECASE)
_SERVICE_NAME = re.compile(
    rf"{PREFIX}(?:SERVICE_.*|PORT(?:_.*)?|\w+_SERVICE_HOST|\w+_SERVICE_PORT(?:_\w+)?|\w+_PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)",
)


@dataclass(frozen=True, slots=True)
class RawSetting:
    """A value as it was written; `source` is where it was found, `name` what the setting is called there."""

    value: object
    source: str
    name: str


Layer = dict[str, RawSetting]


def flags_layer(flags: Mapping[str, object]) -> Layer:
    """Return the settings given on the command line."""
    return {name: RawSetting(value, "command line", f"--{name.replace('_', '-')}") for name, value in flags.items()}


def environment_layer(settings: type[BaseSettings]) -> Layer:
    """Read the environment; blank values and what Kubernetes injects for a Service are ignored."""
    source = EnvSettingsSource(settings, env_prefix=PREFIX)
    source.env_vars = {name: value for name, value in source.env_vars.items() if _is_set_by_operator(value)}
    return {name: RawSetting(value, "environment", f"{PREFIX}{name.upper()}") for name, value in source().items()}


def _is_set_by_operator(value: str | None) -> bool:
    """Return whether an operator set this value, as opposed to blank or injected by Kubernetes."""
    return bool(value and value.strip()) and not _SERVICE_ADDRESS.match(value or "")


def unknown_in_environment(settings: type[BaseSettings]) -> tuple[str, ...]:
    """Return one warning for each variable with our prefix that is not a setting; it never contains the value."""
    known = {timings.VARIABLE, *(f"{PREFIX}{name}".upper() for name in settings.model_fields)}
    unknown = [
        name
        for name, value in sorted(os.environ.items())
        if name.upper().startswith(PREFIX) and name.upper() not in known
        if _is_set_by_operator(value) and not _SERVICE_NAME.fullmatch(name.upper())
    ]
    return tuple(f"{name} is no setting and has no effect{_suggest(name, settings, PREFIX)}" for name in unknown)


def _suggest(name: str, settings: type[BaseSettings], prefix: str = "") -> str:
    """Return `, did you mean NAME?` for the nearest setting, or "" if none is near."""
    bare = name.lower().removeprefix(PREFIX.lower())
    matches = difflib.get_close_matches(bare, list(settings.model_fields), n=1)
    meant = f"{prefix}{matches[0]}" if matches else ""
    return f", did you mean {meant.upper() if prefix else meant}?" if meant else ""


def file_layer(settings: type[BaseSettings], path: Path) -> Layer:
    """Read a TOML file; raise SettingsError if it cannot be read or contains an unknown name."""
    values = _read_toml(settings, path)
    for name in values:
        if name not in settings.model_fields:
            raise SettingsError(f"{path}: {quote_value(name)} is no setting{_suggest(name, settings) or ', remove it'}")
    return {name: RawSetting(value, f"file {path}", f"{name} in {path}") for name, value in values.items()}


def _read_toml(settings: type[BaseSettings], path: Path) -> dict[str, object]:
    """Return the names and values of a TOML file, unchecked."""
    try:
        if not path.is_file():
            fault = "is not a file" if path.exists() else "does not exist"
            raise SettingsError(f"the settings file {quote_value(path)} {fault}, correct --config")
        return TomlConfigSettingsSource(settings, toml_file=path).toml_data
    except OSError as error:
        fault = f"cannot be read ({error.strerror}), correct --config or its permissions"
        raise SettingsError(f"the settings file {quote_value(path)} {fault}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        fault = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it is not UTF-8"
        raise SettingsError(f"the settings file {quote_value(path)} is not TOML, correct it: {fault}") from None


def combine_layers(layers: Iterable[Layer], secrets: Iterable[str]) -> Layer:
    """Merge the layers, the strongest first; a secret's `_file` counts as the secret itself."""
    combined: Layer = {}
    for layer in layers:
        settled = {name for secret in secrets if secret in combined for name in (secret, f"{secret}_file")}
        weaker = {name: found for name, found in layer.items() if name not in settled}
        read = {secret: found for secret in secrets if (found := _resolve_secret_file(weaker, secret))}
        combined = {**weaker, **read, **combined}
    return combined


def _resolve_secret_file(layer: Layer, secret: str) -> RawSetting | None:
    """Read the secret from the file that the layer names, if any; raise SettingsError if the layer has both."""
    pointer = layer.get(f"{secret}_file")
    if pointer is None:
        return None
    if secret in layer:
        raise SettingsError(f"{layer[secret].name} and {pointer.name} are both set, remove one of them")
    return RawSetting(_read_secret(pointer), f"file {pointer.value}", pointer.name)


def _read_secret(pointer: RawSetting) -> str:
    """Return the content of a secret file, stripped; raise SettingsError if it is unreadable or empty."""
    try:
        with Path(str(pointer.value)).open(encoding="utf-8") as handle:
            contents = handle.read(_MAX_SECRET_LENGTH).strip()
    except (OSError, ValueError) as error:
        fault = error.strerror if isinstance(error, OSError) else "it is not a text file"
        sentence = f"{pointer.name} names a file that cannot be read, {quote_value(pointer.value)}: {fault}"
        raise SettingsError(sentence) from None
    if not contents:
        raise SettingsError(
            f"{pointer.name} names an empty file, {quote_value(pointer.value)}: write the secret into it"
        )
    return contents


def quote_value(value: object) -> str:
    """Quote a value for a message: one line, cut, with secrets masked."""
    text = mask_secrets(str(value))
    return repr(text if len(text) <= _MAX_QUOTED_LENGTH else f"{text[:_MAX_QUOTED_LENGTH]}…")
