"""Where settings come from, which wins, and the one sentence for what is impossible."""

import base64
import os
import pickle
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from resumed.config.settings import Loaded, Settings, load_settings, setting_text
from resumed.config.webhook import signing_keys
from resumed.errors import SettingsError

DOCUMENTED = {
    "database_url": None,
    "database_url_file": None,
    "checkpoint_schema": "public",
    "workflows": None,
    "default_workflow": None,
    "graphs": None,
    "poll_interval": timedelta(seconds=5),
    "min_age": timedelta(minutes=5),
    "max_age": timedelta(hours=24),
    "concurrency": 16,
    "sessions": None,
    "processes": 1,
    "worker_memory": None,
    "max_attempts": 5,
    "max_total_attempts": 50,
    "retry_base": timedelta(seconds=30),
    "retry_cap": timedelta(hours=1),
    "recursion_limit": 1000,
    "attempt_timeout": timedelta(minutes=15),
    "shutdown_grace": timedelta(seconds=25),
    "reconnect_grace": timedelta(seconds=10),
    "clock_tolerance": timedelta(minutes=15),
    "http_host": "0.0.0.0",  # noqa: S104 - a documented default
    "http_port": 9764,
    "console_token": None,
    "console_token_file": None,
    "log_format": None,
    "log_level": "info",
    "log_errors": True,
    "strict_msgpack": False,
    "prune_older_than": None,
    "prune_strategy": "keep_latest",
    "history": timedelta(days=30),
    "audit_history": timedelta(days=365),
    "webhook_url": None,
    "webhook_url_file": None,
    "webhook_secret": None,
    "webhook_secret_file": None,
    "traces": False,
    "trace_nest": False,
    "dry_run": False,
    "pg_bin": None,
    "test_database_url": None,
}
DSN = "postgresql://user:hunter2@host:5432/name"
HOOK = "https://alerts.example.com/hunter2?a=b"
KEY = "whsec_" + base64.b64encode(b"hunter2 hunter2 hunter2 ").decode()

Setter = Callable[..., None]


@pytest.fixture(autouse=True)
def _an_empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("RESUMED_", "PG")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Setter:
    def set_all(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


def refusal(config: Path | None = None) -> str:
    """Load what must not load, and return the sentence."""
    with pytest.raises(SettingsError) as error:
        load_settings(config)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert "pydantic" not in sentence
    assert error.value.exit_code == 2
    return sentence


def effective(loaded: Loaded) -> dict[str, object]:
    return {name: getattr(loaded.settings, name) for name in Settings.model_fields}


def test_every_setting_of_the_contract_exists_with_its_default_and_a_reason() -> None:
    loaded = load_settings()
    assert effective(loaded) == DOCUMENTED
    assert set(loaded.sources.values()) == {"default"}
    assert loaded.warnings == ()
    assert all(field.description for field in Settings.model_fields.values())


def test_the_environment_wins_over_the_file_and_each_source_is_known(env: Setter, tmp_path: Path) -> None:
    Path("resumed.toml").write_text('min_age = "1m"\nmax_age = "2h"\nconcurrency = 3\n', encoding="utf-8")
    env(RESUMED_MIN_AGE="2m")
    loaded = load_settings()
    assert (loaded.settings.min_age, loaded.settings.max_age) == (timedelta(minutes=2), timedelta(hours=2))
    assert loaded.sources["min_age"] == "environment"
    assert loaded.sources["max_age"] == "file resumed.toml"
    other = tmp_path / "other.toml"
    other.write_text("concurrency = 4", encoding="utf-8")
    assert load_settings(other).settings.concurrency == 4
    assert load_settings(other).sources["max_age"] == "default"


def test_a_flag_wins_over_the_environment(env: Setter) -> None:
    env(RESUMED_GRAPHS="a.json")
    loaded = load_settings(flags={"graphs": "b.json"})
    assert loaded.settings.graphs == Path("b.json")
    assert loaded.sources["graphs"] == "command line"


def test_a_blank_variable_is_not_set(env: Setter) -> None:
    Path("resumed.toml").write_text("concurrency = 3", encoding="utf-8")
    env(RESUMED_CONCURRENCY="", RESUMED_DATABASE_URL="  ", RESUMED_UNKNOWN="")
    assert load_settings().settings.concurrency == 3
    assert load_settings().warnings == ()


def test_settings_made_in_code_do_not_read_the_environment(env: Setter) -> None:
    env(RESUMED_CONCURRENCY="3")
    assert Settings().concurrency == 16


def test_settings_travel_to_another_process(env: Setter) -> None:
    env(RESUMED_DATABASE_URL=DSN, RESUMED_WORKFLOWS="a,b", RESUMED_WORKER_MEMORY="1GiB")
    settings = load_settings().settings
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("workflows", " orders , refunds,orders", ("orders", "refunds")),
        ("worker_memory", "512MiB", 512 * 1024**2),
        ("worker_memory", "512Mi", 512 * 1024**2),
        ("worker_memory", "1GB", 10**9),
        ("worker_memory", "512M", 512 * 10**6),
        ("worker_memory", "536870912", 512 * 1024**2),
        ("retry_base", "0s", timedelta(0)),
        ("min_age", "PT5M", timedelta(minutes=5)),
        ("log_level", "WARNING", "warning"),
        ("log_format", "console", "console"),
        ("log_errors", "false", False),
        ("dry_run", "1", True),
        ("http_port", "0", 0),
        ("http_host", "::1", "::1"),
        ("prune_older_than", "7d", timedelta(days=7)),
        ("checkpoint_schema", "Lang Graph", "Lang Graph"),
    ],
)
def test_a_variable_is_read_as_what_it_means(env: Setter, name: str, value: str, meant: object) -> None:
    env(**{f"RESUMED_{name.upper()}": value})
    assert getattr(load_settings().settings, name) == meant


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("MIN_AGE", "300", "RESUMED_MIN_AGE: '300' has no unit, write 300s for seconds"),
        ("MIN_AGE", "-5m", "negative"),
        ("MIN_AGE", "2d", "RESUMED_MIN_AGE (2d) is above RESUMED_MAX_AGE (1d), lower the first or raise the second"),
        ("MAX_AGE", "1000000d", "hundred years"),
        ("RETRY_BASE", "2h", "RESUMED_RETRY_BASE (2h) is above RESUMED_RETRY_CAP (1h)"),
        ("MAX_TOTAL_ATTEMPTS", "4", "RESUMED_MAX_ATTEMPTS (5) is above RESUMED_MAX_TOTAL_ATTEMPTS (4)"),
        ("TRACE_NEST", "true", "RESUMED_TRACE_NEST (true) needs RESUMED_TRACES (false), set both or neither"),
        ("WEBHOOK_URL", HOOK, "RESUMED_WEBHOOK_URL needs RESUMED_WEBHOOK_SECRET, set both or neither"),
        ("WEBHOOK_SECRET", KEY, "RESUMED_WEBHOOK_SECRET needs RESUMED_WEBHOOK_URL, set both or neither"),
        ("CONCURRENCY", "0", "RESUMED_CONCURRENCY must be at least 1, not '0'"),
        ("CONCURRENCY", "1.5", "must be a whole number, not '1.5'"),
        ("CONCURRENCY", "9" * 5000, "must be a smaller number"),
        ("PROCESSES", "-1", "must be at least 1"),
        ("MAX_ATTEMPTS", "0", "must be at least 1"),
        ("RECURSION_LIMIT", "many", "must be a whole number, not 'many'"),
        ("POLL_INTERVAL", "0s", "RESUMED_POLL_INTERVAL: must be longer than 0s"),
        ("ATTEMPT_TIMEOUT", "0s", "must be longer than 0s"),
        ("PRUNE_OLDER_THAN", "0s", "must be longer than 0s"),
        ("SHUTDOWN_GRACE", "-1s", "negative"),
        ("HTTP_PORT", "65536", "must be at most 65535, not '65536'"),
        ("HTTP_PORT", "-1", "must be at least 0"),
        ("WORKFLOWS", "a,,b", "and not hold an empty one"),
        ("WORKFLOWS", "a,", "and not hold an empty one"),
        ("WORKFLOWS", ",", "and not hold an empty one"),
        ("LOG_FORMAT", "xml", "must be 'json' or 'console', not 'xml'"),
        ("LOG_LEVEL", "loud", "not 'loud'"),
        ("LOG_ERRORS", "perhaps", "must be true or false, not 'perhaps'"),
        ("WORKER_MEMORY", "lots", "must be a size such as 512MiB or 1GB, not 'lots'"),
        ("WORKER_MEMORY", "512", "must be at least 64MiB, not 512 bytes"),
        ("WORKER_MEMORY", "5 parsecs", "must be a size such as"),
        ("CHECKPOINT_SCHEMA", "x" * 64, "must not be longer than 63 bytes"),
        ("CHECKPOINT_SCHEMA", "a\nb", "one line of text"),
        ("CONSOLE_TOKEN", "a\nb", "one line of text"),
    ],
)
def test_an_impossible_value_stops_the_start_with_one_sentence(
    env: Setter, name: str, value: str, sentence: str
) -> None:
    env(**{f"RESUMED_{name}": value})
    said = refusal()
    assert sentence in said
    assert f"RESUMED_{name}" in said


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        ("min_age = 300", "min_age in resumed.toml: must be a duration in quotes"),
        ("min_age = 07:32:00", "must be a duration in quotes"),
        ("min_agee = '5m'", "resumed.toml: 'min_agee' is no setting, did you mean min_age?"),
        ("RESUMED_MIN_AGE = '5m'", "'RESUMED_MIN_AGE' is no setting, did you mean min_age?"),
        ("MIN_AGE = '5m'", "did you mean min_age?"),
        ("xyzzy = 1", "'xyzzy' is no setting, remove it"),
        ("[resumed]\nmin_age = '5m'", "is no setting"),
        ('"a\\nb" = 1', "is no setting"),
        ("min_age = ", "is not TOML"),
        ("concurrency = true", "must be a whole number"),
        ("concurrency = 1.5", "must be a whole number, not '1.5'"),
        ("http_host = 5", "must be text in quotes, not '5'"),
        ("http_host = ''", "must be one line of text"),
        ('checkpoint_schema = "a\\u0000"', "control characters"),
        ("workflows = []", "not hold an empty one"),
        ("workflows = ['a', 5]", "must be names"),
        ("workflows = ['a', ' ']", "one line of text"),
        ("graphs = 5", "must be a path in quotes"),
        ("log_level = 5", "not '5'"),
        ("database_url = 5", "database_url in resumed.toml must be text"),
        ("database_url = ''", "database_url in resumed.toml"),
        ("database_url = {password = 'hunter2'}", "must be text"),
        ("min_age = '2d'\nmax_age = '1d'", "RESUMED_MIN_AGE (2d) is above RESUMED_MAX_AGE (1d)"),
    ],
)
def test_an_impossible_file_stops_the_start_with_one_sentence(contents: str, sentence: str) -> None:
    Path("resumed.toml").write_text(contents, encoding="utf-8")
    said = refusal()
    assert sentence in said
    assert "hunter2" not in said


def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    assert "does not exist, correct --config" in refusal(tmp_path / "missing.toml")
    assert "is not a file" in refusal(tmp_path)
    assert "it is not UTF-8" in refusal(binary)
    assert "File name too long" in refusal(Path("x" * 5000))
    assert "does not exist" in refusal(Path("a\0b\n"))


def test_a_list_in_a_file_names_workflows() -> None:
    Path("resumed.toml").write_text('workflows = ["orders", "refunds"]', encoding="utf-8")
    assert load_settings().settings.workflows == ("orders", "refunds")


def test_an_unknown_variable_is_a_warning_that_names_the_nearest_setting_and_not_the_value(env: Setter) -> None:
    env(RESUMED_DATABASE_UR=DSN, RESUMED_XYZZY="1")
    warnings = load_settings().warnings
    assert warnings == (
        "RESUMED_DATABASE_UR is no setting and has no effect, did you mean RESUMED_DATABASE_URL?",
        "RESUMED_XYZZY is no setting and has no effect",
    )


def test_a_setting_of_a_later_version_is_a_warning_that_names_it_and_not_its_value(env: Setter, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("hunter2", encoding="utf-8")
    Path("resumed.toml").write_text('prune_older_than = "7d"', encoding="utf-8")
    env(RESUMED_CONSOLE_TOKEN_FILE=str(secret))
    assert load_settings().warnings == (
        "RESUMED_CONSOLE_TOKEN_FILE has no effect yet: this version has no console, remove it",
    )


def test_a_setting_that_only_the_environment_can_carry_is_a_warning_in_a_file(env: Setter) -> None:
    Path("resumed.toml").write_text(f"pg_bin = '/x'\ntest_database_url = '{DSN}'", encoding="utf-8")
    assert load_settings().warnings == (
        "pg_bin in resumed.toml has no effect in a file: set RESUMED_PG_BIN in the environment",
        "test_database_url in resumed.toml has no effect in a file: set RESUMED_TEST_DATABASE_URL in the environment",
    )
    env(RESUMED_PG_BIN="/x", RESUMED_TEST_DATABASE_URL=DSN)
    assert load_settings().warnings == ()


def test_what_kubernetes_injects_for_a_service_called_resumed_is_ignored(env: Setter) -> None:
    env(
        RESUMED_PORT="tcp://10.0.0.7:9764",
        RESUMED_PORT_9764_TCP="tcp://10.0.0.7:9764",
        RESUMED_PORT_9764_TCP_ADDR="10.0.0.7",
        RESUMED_PORT_9764_TCP_PORT="9764",
        RESUMED_PORT_9764_TCP_PROTO="tcp",
        RESUMED_SERVICE_HOST="10.0.0.7",
        RESUMED_SERVICE_PORT="9764",
        RESUMED_SERVICE_PORT_HTTP="9764",
    )
    assert effective(load_settings()) == DOCUMENTED
    assert load_settings().warnings == ()


def test_what_kubernetes_injects_for_a_service_called_resumed_http_is_no_port(env: Setter) -> None:
    Path("resumed.toml").write_text("http_port = 9000", encoding="utf-8")
    env(
        RESUMED_HTTP_PORT="tcp://10.0.0.7:9764",
        RESUMED_HTTP_PORT_9764_TCP="tcp://10.0.0.7:9764",
        RESUMED_HTTP_PORT_9764_TCP_ADDR="10.0.0.7",
        RESUMED_HTTP_PORT_9764_TCP_PORT="9764",
        RESUMED_HTTP_PORT_9764_TCP_PROTO="tcp",
        RESUMED_HTTP_SERVICE_HOST="10.0.0.7",
        RESUMED_HTTP_SERVICE_PORT="9764",
        RESUMED_HTTP_SERVICE_PORT_METRICS="9764",
    )
    loaded = load_settings()
    assert (loaded.settings.http_port, loaded.sources["http_port"]) == (9000, "file resumed.toml")
    assert loaded.warnings == ()


@pytest.mark.parametrize("name", ["database_url", "console_token"])
def test_a_secret_is_read_from_the_file_that_the_environment_names(env: Setter, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{DSN}\n", encoding="utf-8")
    env(**{f"RESUMED_{name.upper()}_FILE": str(secret)})
    loaded = load_settings()
    assert getattr(loaded.settings, name).get_secret_value() == DSN
    assert loaded.sources[name] == f"file {secret}"
    assert loaded.sources[f"{name}_file"] == "environment"


def test_a_secret_and_its_file_at_once_are_refused(env: Setter) -> None:
    env(RESUMED_DATABASE_URL=DSN, RESUMED_DATABASE_URL_FILE="secret")
    assert refusal() == "RESUMED_DATABASE_URL and RESUMED_DATABASE_URL_FILE are both set, remove one of them"


def test_a_secret_in_the_environment_wins_over_a_file_that_the_settings_file_names(env: Setter) -> None:
    Path("resumed.toml").write_text('database_url_file = "missing"', encoding="utf-8")
    env(RESUMED_DATABASE_URL=DSN)
    loaded = load_settings()
    assert loaded.settings.dsn == DSN
    assert loaded.settings.database_url_file is None


def test_a_secrets_file_that_is_missing_empty_or_binary_is_named(env: Setter, tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text(" \n", encoding="utf-8")
    binary.write_bytes(b"\xff\xfe\x00")
    for path, fault in ((tmp_path / "missing", "No such file"), (empty, "empty file"), (binary, "not a text file")):
        env(RESUMED_DATABASE_URL_FILE=str(path))
        assert fault in refusal()


def test_a_dsn_put_where_a_file_is_named_is_not_repeated(env: Setter) -> None:
    env(RESUMED_DATABASE_URL_FILE=DSN)
    assert "hunter2" not in refusal()


def test_without_an_address_libpqs_variables_count_and_without_those_it_is_said(env: Setter) -> None:
    with pytest.raises(SettingsError, match=r"no database: set RESUMED_DATABASE_URL .* or libpq's PG"):
        _ = load_settings().settings.dsn
    env(PGHOST="localhost")
    assert load_settings().settings.dsn == ""


def test_the_dsn_is_the_address_without_an_sqlalchemy_driver(env: Setter) -> None:
    env(RESUMED_DATABASE_URL="postgresql+psycopg://user:hunter2@host/name?sslmode=require\n")
    assert load_settings().settings.dsn == "postgresql://user:hunter2@host/name?sslmode=require"


@pytest.mark.parametrize("address", ["hunter2", "mysql://u:hunter2@h/d", "postgresql://u:hunter2@h:p@h/d"])
def test_what_is_no_address_is_refused_without_repeating_it(env: Setter, address: str) -> None:
    env(RESUMED_DATABASE_URL=address)
    said = refusal()
    assert said.startswith("RESUMED_DATABASE_URL is not ")
    assert "hunter2" not in said


def test_a_webhook_has_an_address_and_a_secret_or_several_while_it_is_rotated(env: Setter) -> None:
    unpadded = "whsec_" + base64.b64encode(b"y" * 64).decode().rstrip("=")
    env(RESUMED_WEBHOOK_URL=HOOK, RESUMED_WEBHOOK_SECRET=f"{KEY} {unpadded}")
    loaded = load_settings()
    assert loaded.warnings == ()
    url, secret = loaded.settings.webhook_url, loaded.settings.webhook_secret
    assert url is not None
    assert secret is not None
    assert url.get_secret_value() == HOOK
    assert signing_keys(secret.get_secret_value()) == (b"hunter2 hunter2 hunter2 ", b"y" * 64)
    assert signing_keys(KEY.removeprefix("whsec_")) == (b"hunter2 hunter2 hunter2 ",)
    assert [setting_text(value) for value in (url, secret)] == ["***", "***"]


@pytest.mark.parametrize(
    "url",
    [
        "hunter2", "ftp://hunter2/x", "https://", "https:///hunter2", "https://hunter2:port/", "https://hunter2:0/",
        "https://[hunter2/", "https://user:hunter2@host/", "https://host/hunter2 x", "https://host/hunter2é",
        "http://host/hunter2\nx", "https://host/hunter2" + "x" * 2000, "//host/hunter2",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_webhook_is_refused_without_repeating_it(env: Setter, url: str) -> None:
    env(RESUMED_WEBHOOK_URL=url, RESUMED_WEBHOOK_SECRET=KEY)
    said = refusal()
    assert said.startswith("RESUMED_WEBHOOK_URL ")
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "secret", ["hunter2", "hunter2" * 10, "whsec_hunter2", "whsec_" + "hunter2!" * 8, KEY + "A" * 80, f"{KEY} hunter2"]
)
def test_what_is_no_secret_of_standard_webhooks_is_refused_with_how_to_make_one(env: Setter, secret: str) -> None:
    env(RESUMED_WEBHOOK_URL=HOOK, RESUMED_WEBHOOK_SECRET=secret)
    assert refusal() == (
        "RESUMED_WEBHOOK_SECRET must be whsec_ and the base64 of 24 to 64 random bytes, "
        'make one with: echo "whsec_$(openssl rand -base64 32)"'
    )


@given(secret=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=3))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_secret_shows_in_the_text_of_the_settings_or_of_a_refusal(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("RESUMED_CONSOLE_TOKEN", f"zq{secret}")
    monkeypatch.setenv("RESUMED_DATABASE_URL", f"postgresql://user:zq{secret}@host/name")
    monkeypatch.setenv("RESUMED_TEST_DATABASE_URL", f"zq{secret}")
    said = refusal()
    assert f"zq{secret}" not in said
    token = Settings(console_token=f"zq{secret}").console_token  # type: ignore[arg-type]
    assert f"zq{secret}" not in f"{token!r}{token}{setting_text(token)}"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (timedelta(hours=24), "1d"), (True, "true"), (("a", "b"), "a,b"), (16, "16"), (Path("x"), "x")],
)
def test_a_value_is_written_as_the_environment_would_hold_it(value: object, text: str) -> None:
    assert setting_text(value) == text


def test_every_default_written_out_is_read_back_the_same(env: Setter) -> None:
    defaults = {name: setting_text(value) for name, value in DOCUMENTED.items() if value is not None}
    env(**{f"RESUMED_{name.upper()}": text for name, text in defaults.items()})
    assert effective(load_settings()) == DOCUMENTED
