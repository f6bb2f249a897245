"""What counts as an address of a Postgres, and that no complaint repeats a part of one."""

from urllib.parse import quote

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from resumed.config import dsn

PASSWORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
AWKWARD = st.text(st.sampled_from("ab1 @:/?#%&='\\\"[],\n\t"), min_size=1, max_size=12)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://user:password@host:5432/name",
        "postgres://host/name",
        "postgresql://",
        "postgresql:///name?host=/run/postgresql",
        "postgresql://%2Frun%2Fpostgresql/name",
        "postgresql://user@[::1]:5432/name",
        "postgresql://a:5432,b:5433/name?target_session_attrs=read-write&sslmode=require",
        "postgresql://user:p%40ss%2Fword@host/name?",
        "host=localhost dbname=name",
        "host = localhost  user='a b' password='it\\'s'",
        "service=shop",
    ],
)
def test_what_libpq_takes_is_left_as_it_is(address: str) -> None:
    assert dsn.check_dsn(address) == address
    conninfo_to_dict(address)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg", "psycopg_async"])
def test_the_driver_of_a_sqlalchemy_address_is_dropped(driver: str) -> None:
    address = f"postgresql+{driver}://user:password@host/name?sslmode=require"
    assert dsn.check_dsn(address) == "postgresql://user:password@host/name?sslmode=require"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "hunter2",
        "hunter2==",
        "password=hunter2",
        "mysql://user:hunter2@host/name",
        "https://user:hunter2@host",
        "jdbc:postgresql://host/name?password=hunter2",
        "postgresql:/user:hunter2@host",
        "postgresql://user:hunter2@5@host/name",
        "postgresql://user:hunter2/5@host/name",
        "postgresql://user:hunter2?5@host/name",
        "postgresql://user:hunter2 5@host/name",
        "postgresql://user:hunter2%@host/name",
        "postgresql://user:hunter2%zz@host/name",
        "postgresql://user:hunter2%00@host/name",
        "postgresql://user:hunter2\0@host/name",
        "postgresql://user@host:hunter2/name",
        "postgresql://user@host/name?hunter2",
        "host=localhost password=hunter2 5",
        "host=localhost password='hunter2",
        "host=localhost password='hunter2'5",
        "password=hunter2\\",
    ],
)
def test_what_libpq_would_stumble_over_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has|holds) ") as refusal:
        dsn.check_dsn(address)
    assert "hunter2" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@given(PASSWORDS)
def test_any_password_passes_when_it_is_percent_encoded(password: str) -> None:
    address = dsn.check_dsn(f"postgresql://user:{quote(password, safe='')}@host/name")
    assert conninfo_to_dict(address)["password"] == password


@given(AWKWARD)
def test_a_password_pasted_raw_is_refused_or_means_to_libpq_what_it_says(password: str) -> None:
    try:
        address = dsn.check_dsn(f"postgresql://user:{password}@host/name")
    except ValueError:
        return
    assert conninfo_to_dict(address)["host"] == "host"


@given(AWKWARD)
def test_what_is_accepted_in_pairs_libpq_can_take_apart(value: str) -> None:
    try:
        address = dsn.check_dsn(f"host=localhost password={value}")
    except ValueError:
        return
    try:
        conninfo_to_dict(address)
    except psycopg.ProgrammingError as error:
        assert "invalid connection option" in str(error)  # noqa: PT017 - a keyword is no secret


@pytest.mark.parametrize("name", ["PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"])
def test_libpqs_own_variables_locate_a_database(name: str) -> None:
    assert dsn.has_libpq_address({name: "x"})


def test_a_password_or_an_empty_variable_alone_locates_nothing() -> None:
    assert not dsn.has_libpq_address({"PGPASSWORD": "x", "PGHOST": ""})
