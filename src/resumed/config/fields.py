"""Owns what each kind of setting may hold and the sentence for what it may not. Knows no setting by its name."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr
from pydantic_settings import NoDecode

from resumed import durations
from resumed.config import dsn

_LEAST_MEMORY = 64 * 1024**2
_LONGEST_IDENTIFIER = 63


def _duration(value: object) -> timedelta:
    """Take a length of time as it is written in a setting; a bare number says nothing about its unit."""
    if isinstance(value, str):
        return durations.parse_duration(value)
    if isinstance(value, timedelta) and value >= timedelta(0):
        return value
    sentence = 'must be a duration in quotes, such as "30s", "5m", "24h" or "PT5M"'
    raise ValueError(sentence)


def _above_zero(value: timedelta) -> timedelta:
    """Refuse no time at all."""
    if not value:
        sentence = "must be longer than 0s"
        raise ValueError(sentence)
    return value


def _a_day(value: timedelta) -> timedelta:
    """Refuse a history that would take what is still looked at."""
    if value < timedelta(days=1):
        sentence = "must be at least 1d"
        raise ValueError(sentence)
    return value


def _thirty_days(value: timedelta) -> timedelta:
    """Refuse an audit that is gone before anybody asks for it; the database keeps the last thirty days in any case."""
    if value < timedelta(days=30):
        sentence = "must be at least 30d"
        raise ValueError(sentence)
    return value


def _line(value: str) -> str:
    """Refuse an empty text and one with control characters, newlines and NUL among them."""
    if not value or not value.isprintable():
        sentence = "must be one line of text, not empty and without control characters"
        raise ValueError(sentence)
    return value


def _identifier(value: str) -> str:
    """Refuse what Postgres would cut short."""
    if len(value.encode()) > _LONGEST_IDENTIFIER:
        sentence = f"must not be longer than {_LONGEST_IDENTIFIER} bytes"
        raise ValueError(sentence)
    return value


def _names(value: object) -> object:
    """Split `a, b`; a list from a file is taken as it is."""
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) and name for name in names):
        sentence = "must be names separated by single commas, such as orders,refunds, and not hold an empty one"
        raise ValueError(sentence)
    return tuple(dict.fromkeys(names))


def _with_byte_unit(value: object) -> object:
    """Let `512Mi`, as Kubernetes writes it, mean `512MiB`."""
    return f"{value}B" if isinstance(value, str) and value.rstrip().endswith(("i", "I")) else value


def _enough(value: ByteSize) -> ByteSize:
    """Refuse a limit under which no worker could start."""
    if value < _LEAST_MEMORY:
        sentence = f"must be at least 64MiB, not {int(value)} bytes"
        raise ValueError(sentence)
    return value


def _lower(value: object) -> object:
    """Let `INFO` mean `info`."""
    return value.lower() if isinstance(value, str) else value


def _no_flag(value: object) -> object:
    """Refuse `true` where a number is meant."""
    if isinstance(value, bool):
        sentence = "must be a whole number"
        raise ValueError(sentence)  # noqa: TRY004 - pydantic turns only a ValueError into a complaint
    return value


def _address(value: SecretStr) -> SecretStr:
    """Take the address of a database as libpq takes it."""
    return SecretStr(dsn.check_dsn(value.get_secret_value()))


def _secret_line(value: SecretStr) -> SecretStr:
    """Refuse a token that no header could carry."""
    return SecretStr(_line(value.get_secret_value().strip()))


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Period = Annotated[Duration, AfterValidator(_above_zero)]
History = Annotated[Duration, AfterValidator(_a_day)]
AuditHistory = Annotated[Duration, AfterValidator(_thirty_days)]
Line = Annotated[str, AfterValidator(_line)]
Identifier = Annotated[str, AfterValidator(_line), AfterValidator(_identifier)]
Names = Annotated[tuple[Line, ...], NoDecode, BeforeValidator(_names)]
Count = Annotated[int, BeforeValidator(_no_flag), Field(ge=1, le=1_000_000)]
Port = Annotated[int, BeforeValidator(_no_flag), Field(ge=0, le=65_535)]
Memory = Annotated[ByteSize, BeforeValidator(_with_byte_unit), AfterValidator(_enough)]
Address = Annotated[SecretStr, AfterValidator(_address)]
Token = Annotated[SecretStr, AfterValidator(_secret_line)]
LogFormat = Annotated[Literal["json", "console"], BeforeValidator(_lower)]
Strategy = Annotated[Literal["keep_latest", "delete"], BeforeValidator(_lower)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)]
