"""The types of settings: what each may hold, and the error message if it does not. Knows no setting by name."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr
from pydantic_settings import NoDecode

from resumed import durations
from resumed.config import dsn, webhook

_MIN_MEMORY = 64 * 1024**2
_MAX_IDENTIFIER_BYTES = 63


def _parse_duration(value: object) -> timedelta:
    """Parse a duration; a bare number is refused because it has no unit."""
    if isinstance(value, str):
        return durations.parse_duration(value)
    if isinstance(value, timedelta) and value >= timedelta(0):
        return value
    sentence = 'must be a duration in quotes, such as "30s", "5m", "24h" or "PT5M"'
    raise ValueError(sentence)


def _require_positive(value: timedelta) -> timedelta:
    """Refuse a duration of zero."""
    if not value:
        sentence = "must be longer than 0s"
        raise ValueError(sentence)
    return value


def _require_day(value: timedelta) -> timedelta:
    """Refuse a history that would take what is still looked at."""
    if value < timedelta(days=1):
        sentence = "must be at least 1d"
        raise ValueError(sentence)
    return value


def _require_thirty_days(value: timedelta) -> timedelta:
    """Refuse an audit that is gone before anybody asks for it; the database keeps the last thirty days in any case."""
    if value < timedelta(days=30):
        sentence = "must be at least 30d"
        raise ValueError(sentence)
    return value


def _require_line(value: str) -> str:
    """Refuse empty text and control characters, including newline and NUL."""
    if not value or not value.isprintable():
        sentence = "must be one line of text, not empty and without control characters"
        raise ValueError(sentence)
    return value


def _require_identifier(value: str) -> str:
    """Refuse a name that Postgres would truncate."""
    if len(value.encode()) > _MAX_IDENTIFIER_BYTES:
        sentence = f"must not be longer than {_MAX_IDENTIFIER_BYTES} bytes"
        raise ValueError(sentence)
    return value


def _split_names(value: object) -> object:
    """Split `a, b` into names without duplicates; accept a list from a file."""
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) and name for name in names):
        sentence = "must be names separated by single commas, such as orders,refunds, and not hold an empty one"
        raise ValueError(sentence)
    return tuple(dict.fromkeys(names))


def _add_byte_unit(value: object) -> object:
    """Read `512Mi`, as Kubernetes writes it, as `512MiB`."""
    return f"{value}B" if isinstance(value, str) and value.rstrip().endswith(("i", "I")) else value


def _require_minimum(value: ByteSize) -> ByteSize:
    """Refuse a limit below which no worker can start."""
    if value < _MIN_MEMORY:
        sentence = f"must be at least 64MiB, not {int(value)} bytes"
        raise ValueError(sentence)
    return value


def _lowercase(value: object) -> object:
    """Accept `INFO` for `info`."""
    return value.lower() if isinstance(value, str) else value


def _refuse_boolean(value: object) -> object:
    """Refuse `true` where a number is expected."""
    if isinstance(value, bool):
        sentence = "must be a whole number"
        raise ValueError(sentence)  # noqa: TRY004 - pydantic reports only a ValueError
    return value


def _parse_address(value: SecretStr) -> SecretStr:
    """Return the database address in libpq's form."""
    return SecretStr(dsn.check_dsn(value.get_secret_value()))


def _parse_token(value: SecretStr) -> SecretStr:
    """Refuse a token that an HTTP header cannot carry."""
    return SecretStr(_require_line(value.get_secret_value().strip()))


def _parse_webhook_url(value: SecretStr) -> SecretStr:
    """Refuse an address to which no request can be made; it is a secret, for its path may hold one."""
    return SecretStr(webhook.check_url(value.get_secret_value()))


def _parse_webhook_secret(value: SecretStr) -> SecretStr:
    """Refuse what is no secret of Standard Webhooks."""
    return SecretStr(webhook.check_secret(value.get_secret_value()))


Duration = Annotated[timedelta, BeforeValidator(_parse_duration)]
Period = Annotated[Duration, AfterValidator(_require_positive)]
History = Annotated[Duration, AfterValidator(_require_day)]
AuditHistory = Annotated[Duration, AfterValidator(_require_thirty_days)]
Line = Annotated[str, AfterValidator(_require_line)]
Identifier = Annotated[str, AfterValidator(_require_line), AfterValidator(_require_identifier)]
Names = Annotated[tuple[Line, ...], NoDecode, BeforeValidator(_split_names)]
Count = Annotated[int, BeforeValidator(_refuse_boolean), Field(ge=1, le=1_000_000)]
Port = Annotated[int, BeforeValidator(_refuse_boolean), Field(ge=0, le=65_535)]
Memory = Annotated[ByteSize, BeforeValidator(_add_byte_unit), AfterValidator(_require_minimum)]
Address = Annotated[SecretStr, AfterValidator(_parse_address)]
Token = Annotated[SecretStr, AfterValidator(_parse_token)]
WebhookUrl = Annotated[SecretStr, AfterValidator(_parse_webhook_url)]
WebhookSecret = Annotated[SecretStr, AfterValidator(_parse_webhook_secret)]
LogFormat = Annotated[Literal["json", "console"], BeforeValidator(_lowercase)]
Strategy = Annotated[Literal["keep_latest", "delete"], BeforeValidator(_lowercase)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lowercase)]
