"""Every setting with its default, limits and description, and how they are loaded. Opens no database."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from resumed import durations
from resumed.config import dsn, sources
from resumed.config.fields import (
    Address,
    AuditHistory,
    Count,
    Duration,
    History,
    Identifier,
    Line,
    LogFormat,
    LogLevel,
    Memory,
    Names,
    Period,
    Port,
    Strategy,
    Token,
    WebhookSecret,
    WebhookUrl,
)
from resumed.errors import SettingsError
from resumed.observability.redaction import mask_secrets

DEFAULT_FILE = Path("resumed.toml")
_SECRETS_WITH_FILE = ("database_url", "console_token", "webhook_url", "webhook_secret")
SECRETS = (*_SECRETS_WITH_FILE, "test_database_url")

_NO_DATABASE = (
    "no database: set RESUMED_DATABASE_URL (postgresql://user:password@host:5432/name) or libpq's PG* variables"
)
_NOT_YET = {
    "console_token": "this version has no console, remove it",
}
_ENVIRONMENT_ONLY = ("pg_bin", "test_database_url")
_MESSAGES = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "literal_error": "must be {expected}",
    "string_type": "must be text in quotes",
    "path_type": "must be a path in quotes",
    "byte_size": "must be a size such as 512MiB or 1GB",
    "byte_size_unit": "must be a size such as 512MiB or 1GB",
}


class Settings(BaseSettings):
    """What an operator can set; `load_settings` reads the environment and files."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, str_strip_whitespace=True, validate_default=False
    )

    database_url: Address | None = Field(
        default=None, description="Direct Postgres address, not through a transaction pooler."
    )
    database_url_file: Path | None = Field(
        default=None, description="A file that holds the address, so that no process listing shows it."
    )
    checkpoint_schema: Identifier = Field(default="public", description="The schema of LangGraph's tables.")
    workflows: Names | None = Field(default=None, description="Entry points to load, comma-separated; all if unset.")
    default_workflow: Line | None = Field(default=None, description="The workflow of threads that name none.")
    graphs: Path | None = Field(default=None, description="A langgraph.json whose graphs are registered as well.")
    poll_interval: Period = Field(default=timedelta(seconds=5), description="Time between sweeps.")
    min_age: Duration = Field(
        default=timedelta(minutes=5),
        description="Silence before a thread without proof of death is resumed; must exceed the longest node.",
    )
    max_age: Duration = Field(
        default=timedelta(hours=24),
        description="Threads already quiet for longer than this when first seen are left alone.",
    )
    concurrency: Count = Field(default=16, description="Attempts at once in one worker process.")
    sessions: Count | None = Field(
        default=None, description="Lock sessions that the attempts of a worker share; if unset, one for each attempt."
    )
    processes: Count = Field(default=1, description="Worker processes; user code never runs in the control process.")
    worker_memory: Memory | None = Field(
        default=None,
        description="Memory limit of a worker (RLIMIT_DATA); if unset, its share of the container's, less 150 MiB.",
    )
    max_attempts: Count = Field(default=5, description="Charged attempts without progress before quarantine.")
    max_total_attempts: Count = Field(default=50, description="Attempts of any kind on one case before quarantine.")
    retry_base: Duration = Field(
        default=timedelta(seconds=30),
        description="First step of the exponential back-off; 0s retries at the next sweep.",
    )
    retry_cap: Duration = Field(default=timedelta(hours=1), description="The longest back-off.")
    recursion_limit: Count = Field(
        default=1000, description="Supersteps of one attempt where the workflow names no limit."
    )
    attempt_timeout: Period = Field(
        default=timedelta(minutes=15),
        description="Time limit of an attempt; its process is killed if it does not stop.",
    )
    shutdown_grace: Duration = Field(
        default=timedelta(seconds=25),
        description="Time to drain after SIGTERM; keep it below the orchestrator's grace.",
    )
    reconnect_grace: Duration = Field(
        default=timedelta(seconds=10),
        description="After a reconnect or a server restart, how long free locks are not believed.",
    )
    clock_tolerance: Duration = Field(default=timedelta(minutes=15), description="How late a checkpoint id may appear.")
    http_host: Line = Field(default="0.0.0.0", description="Address for metrics and health.")  # noqa: S104 - a container's ports are reached from outside
    http_port: Port = Field(default=9764, description="Port for metrics and health; 0 picks a free one.")
    console_token: Token | None = Field(default=None, description="Has no effect yet: there is no console.")
    console_token_file: Path | None = Field(default=None, description="Has no effect yet: there is no console.")
    log_format: LogFormat | None = Field(default=None, description="json or console; if unset, console on a terminal.")
    log_level: LogLevel = Field(default="info", description="The lowest level that is logged.")
    log_errors: bool = Field(default=True, description="Whether error messages are logged, redacted and cut.")
    strict_msgpack: bool = Field(default=False, description="LangGraph's strict deserialisation.")
    prune_older_than: Period | None = Field(
        default=None, description="When set, threads finished for so long are pruned; a workflow's retention wins."
    )
    prune_strategy: Strategy = Field(
        default="keep_latest", description="keep_latest or delete: what pruning leaves of a thread."
    )
    history: History = Field(
        default=timedelta(days=30), description="How long our closed cases, attempts and ended runs are kept."
    )
    audit_history: AuditHistory = Field(default=timedelta(days=365), description="How long the audit is kept.")
    traces: bool = Field(default=False, description="A span an attempt, by OpenTelemetry; needs the extra otel.")
    trace_nest: bool = Field(default=False, description="Whether what nodes trace goes under the attempt's span.")
    webhook_url: WebhookUrl | None = Field(
        default=None, description="Where signed notices of quarantine, waiting, open circuits and pauses are sent."
    )
    webhook_url_file: Path | None = Field(default=None, description="A file that holds the address of the webhook.")
    webhook_secret: WebhookSecret | None = Field(
        default=None, description="The secret that notices are signed with: whsec_ and base64."
    )
    webhook_secret_file: Path | None = Field(default=None, description="A file that holds the secret of the webhook.")
    dry_run: bool = Field(default=False, description="Sweep, judge and report; resume nothing.")
    pg_bin: Path | None = Field(
        default=None, description="Folder of initdb and postgres; demo and tests only, environment only."
    )
    test_database_url: Address | None = Field(
        default=None, description="A server for the tests to use; environment only."
    )

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # unused sources need no names
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings passes every source by name
        init_settings: PydanticBaseSettingsSource,
        **others: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only init values: `load_settings` records the source of every value, which pydantic would lose."""
        return (init_settings,)

    @model_validator(mode="after")
    def _possible_together(self) -> Self:
        """Raise ValueError if two settings exclude each other."""
        _require_order(self, "min_age", "max_age")
        _require_order(self, "retry_base", "retry_cap")
        _require_order(self, "max_attempts", "max_total_attempts")
        if self.trace_nest and not self.traces:
            sentence = "RESUMED_TRACE_NEST (true) needs RESUMED_TRACES (false), set both or neither"
            raise ValueError(sentence)
        if (self.webhook_url is None) is not (self.webhook_secret is None):
            there, missing = ("URL", "SECRET") if self.webhook_url is not None else ("SECRET", "URL")
            sentence = f"RESUMED_WEBHOOK_{there} needs RESUMED_WEBHOOK_{missing}, set both or neither"
            raise ValueError(sentence)
        return self

    @property
    def dsn(self) -> str:
        """Return libpq's conninfo, "" if `PG*` variables name the server; raise SettingsError without either."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        if dsn.has_libpq_address(os.environ):
            return ""
        raise SettingsError(_NO_DATABASE)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective settings, the source of each, and a warning for each that has no effect."""

    settings: Settings
    sources: Mapping[str, str]
    warnings: tuple[str, ...]


def load_settings(config: Path | None = None, flags: Mapping[str, object] | None = None) -> Loaded:
    """Read flags, environment and file, in this order of precedence; raise SettingsError with the remedy.

    `config` is the file; None: `resumed.toml` in the working directory if there is one.
    """
    layers = [sources.flags_layer(flags or {}), sources.environment_layer(Settings)]
    if config is not None or _has_file(DEFAULT_FILE):
        layers.append(sources.file_layer(Settings, config or DEFAULT_FILE))
    found = sources.combine_layers(layers, _SECRETS_WITH_FILE)
    try:
        settings = Settings(**{name: one.value for name, one in found.items()})  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(_error_message(error, found)) from None
    origins = {name: found[name].source if name in found else "default" for name in Settings.model_fields}
    return Loaded(settings, origins, (*sources.unknown_in_environment(Settings), *_list_ineffective(found)))


def _list_ineffective(found: Mapping[str, sources.RawSetting]) -> tuple[str, ...]:
    """Return one warning for each setting that was set and has no effect; it never contains the value."""
    later = [f"{found[name].name} has no effect yet: {why}" for name, why in _NOT_YET.items() if name in found]
    misplaced = [
        f"{found[name].name} has no effect in a file: set RESUMED_{name.upper()} in the environment"
        for name in _ENVIRONMENT_ONLY
        if name in found and found[name].source != "environment"
    ]
    return (*later, *misplaced)


def _has_file(path: Path) -> bool:
    """Return whether the file exists; one in a directory that we may not search does not."""
    try:
        return path.exists()
    except OSError:
        return False


def _error_message(error: ValidationError, found: sources.Layer) -> str:
    """Return what to change about the first error, without quoting a secret."""
    fault = error.errors(include_url=False)[0]
    context = fault.get("ctx", {})
    problem = str(context["error"]) if "error" in context else None
    name = str(fault["loc"][0]) if fault["loc"] else ""
    if name not in found:
        return problem or f"{name} cannot be used"
    if name in SECRETS:
        return f"{found[name].name} {problem or 'must be text'}"
    if problem:
        return f"{found[name].name}: {mask_secrets(problem)}"
    wanted = _MESSAGES.get(fault["type"], "cannot be used as it is").format_map(context)
    return f"{found[name].name} {wanted}, not {sources.quote_value(found[name].value)}"


def _require_order(settings: Settings, lower: str, upper: str) -> None:
    """Raise ValueError if the first setting exceeds the second."""
    if getattr(settings, lower) > getattr(settings, upper):
        low, high = (f"RESUMED_{name.upper()} ({setting_text(getattr(settings, name))})" for name in (lower, upper))
        sentence = f"{low} is above {high}, lower the first or raise the second"
        raise ValueError(sentence)


def setting_text(value: object) -> str:
    """Return a value as it is written in the environment, secrets masked, "" for None."""
    match value:
        case None:
            return ""
        case SecretStr():
            return "***"
        case timedelta():
            return durations.duration_text(value)
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(value)
        case _:
            return str(value)
