"""Owns what an error of the database means: the only place that reads SQLSTATEs. It handles none.

Where there is a SQLSTATE no text is read, whatever the language of the server. libpq gives none for a connection that
could not be made: only there the server's words decide, and what they do not tell counts as passing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

import psycopg

from resumed.errors import DatabaseError, DatabaseUnreachableError, DatabaseUnusableError

_LONGEST = 300


class ErrorKind(Enum):
    """What an error of the database is about."""

    UNREACHABLE = auto()
    """The session or the server is gone, or is not there yet."""
    BUSY = auto()
    """A time limit, or a lock that another session holds."""
    CONFLICT = auto()
    """A serialization failure, a deadlock, a plan that was prepared too early: the same again may succeed."""
    RESOURCES = auto()
    """The server has run out of disk, memory or sessions, or its system fails it."""
    READ_ONLY = auto()
    """The server, or the session, takes no writes."""
    REFUSED = auto()
    """The role, its password or its rights."""
    MISSING = auto()
    """A table, column, function or schema is not there."""
    REJECTED = auto()
    """The statement, or a value in it, is not one that this database takes."""
    OTHER = auto()
    """The server itself, or the way to it, is not in order."""


# The longest beginning of a SQLSTATE counts: https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_SQLSTATE = {
    "08": ErrorKind.UNREACHABLE,
    "57": ErrorKind.UNREACHABLE,
    "25P03": ErrorKind.UNREACHABLE,
    "25P04": ErrorKind.UNREACHABLE,
    "57014": ErrorKind.BUSY,
    "55P03": ErrorKind.BUSY,
    "55006": ErrorKind.BUSY,
    "40": ErrorKind.CONFLICT,
    "53": ErrorKind.RESOURCES,
    "58": ErrorKind.RESOURCES,
    "25006": ErrorKind.READ_ONLY,
    "28": ErrorKind.REFUSED,
    "3D": ErrorKind.REFUSED,
    "42501": ErrorKind.REFUSED,
    "3F": ErrorKind.MISSING,
    "42P01": ErrorKind.MISSING,
    "42703": ErrorKind.MISSING,
    "42883": ErrorKind.MISSING,
    "09": ErrorKind.REJECTED,
    "0A": ErrorKind.REJECTED,
    "21": ErrorKind.REJECTED,
    "22": ErrorKind.REJECTED,
    "23": ErrorKind.REJECTED,
    "27": ErrorKind.REJECTED,
    "42": ErrorKind.REJECTED,
    "44": ErrorKind.REJECTED,
    "54": ErrorKind.REJECTED,
    "P0": ErrorKind.REJECTED,
}
_PASSING = frozenset({ErrorKind.UNREACHABLE, ErrorKind.BUSY, ErrorKind.CONFLICT, ErrorKind.RESOURCES})
# Of a thread's own statements, on a session that lives: its values, or what was done to the tables that it saves to.
_OF_THE_STATEMENT = frozenset({ErrorKind.REJECTED, ErrorKind.MISSING, ErrorKind.REFUSED})
_SENTENCES = {
    ErrorKind.UNREACHABLE: "the session with the database was lost: {said}; try again when the database is up",
    ErrorKind.BUSY: "the database is busy: {said}; try again, and see in pg_stat_activity what holds it up",
    ErrorKind.CONFLICT: "the database is busy: {said}; try again",
    ErrorKind.RESOURCES: "the database has run out of something: {said}; make room for it, then try again",
    ErrorKind.READ_ONLY: "the database is read-only: {said}; give the primary's address, or set "
    "default_transaction_read_only to off for this role or database",
    ErrorKind.REFUSED: "the database refuses us: {said}; correct RESUMED_DATABASE_URL or the role's rights",
    ErrorKind.MISSING: "the database lacks something: {said}; run `resumed migrate`, and the application's "
    "`checkpointer.setup()`",
    ErrorKind.REJECTED: "the database cannot be used: it refuses a statement: {said}; `resumed doctor` examines it",
    ErrorKind.OTHER: "the database cannot be used: {said}; `resumed doctor` examines it",
}
_NOT_READY_YET = (
    "starting up",
    "shutting down",
    "recovery mode",
    "too many",
    "remaining connection slots",
    "not yet accept",
)
_REFUSING = (
    "password",
    "pg_hba.conf",
    "does not exist",
    "not permitted to log in",
    "permission denied",
    "no such user",
    "authentication",
)


def kind_of(error: psycopg.Error) -> ErrorKind:
    """Return what an error is about."""
    code = error.sqlstate
    if is_stale_plan(error):
        return ErrorKind.CONFLICT
    if code is not None:
        return next((_BY_SQLSTATE[code[:n]] for n in (5, 3, 2) if code[:n] in _BY_SQLSTATE), ErrorKind.OTHER)
    if isinstance(error, psycopg.DataError):
        return ErrorKind.REJECTED
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return ErrorKind.UNREACHABLE
    return ErrorKind.OTHER


def is_stale_plan(error: psycopg.Error) -> bool:
    """Return whether a statement was prepared before its table was changed; its SQLSTATE has other meanings as well."""
    return error.sqlstate == "0A000" and error.diag.source_function == "RevalidateCachedQuery"


def is_transient(error: psycopg.Error) -> bool:
    """Return whether another try later may succeed without any change."""
    return kind_of(error) in _PASSING


def is_conflict(error: psycopg.Error) -> bool:
    """Return whether the database asks for a retry: a serialization failure, a deadlock or a stale plan."""
    return kind_of(error) is ErrorKind.CONFLICT


def blames_statement(error: psycopg.Error) -> bool:
    """Return whether, on a session that lives, an error is about the statement and its values and nothing else."""
    return kind_of(error) in _OF_THE_STATEMENT


def blames_value(error: psycopg.Error) -> bool:
    """Return whether a value is to blame that the database cannot store, or cannot return."""
    return error.sqlstate is not None and error.sqlstate.startswith("22")


def refuses_writes(error: BaseException) -> bool:
    """Return whether an error means that the database is read-only."""
    return isinstance(error, psycopg.Error) and kind_of(error) is ErrorKind.READ_ONLY


def explain(error: psycopg.Error) -> DatabaseError:
    """Turn an error into a sentence of ours; never more than its first line, which holds no value and no password."""
    fault, said = kind_of(error), first_line(error)
    if error.sqlstate is None and fault is ErrorKind.UNREACHABLE:
        return _without_sqlstate(said)
    kind = DatabaseUnreachableError if fault in _PASSING else DatabaseUnusableError
    return kind(_SENTENCES[fault].format(said=said))


def first_line(error: BaseException) -> str:
    """Return the first line of what the server, or libpq, says; the lines after it may hold values."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    tried = [line for line in lines[1:] if line.startswith("- ")]  # a line for each host
    line = tried[-1] if tried else lines[0]
    return line.removeprefix("connection failed: ").split("FATAL:")[-1].strip()[:_LONGEST]


@contextmanager
def explaining() -> Iterator[None]:
    """Raise what the database refuses within the block as a DatabaseError with one sentence."""
    try:
        yield
    except psycopg.Error as error:
        raise explain(error) from None


def _without_sqlstate(said: str) -> DatabaseError:
    """Sort an error of libpq, most often of a connection that could not be made."""
    if any(word in said for word in _NOT_READY_YET):
        return DatabaseUnreachableError(f"the database is not ready: {said}")
    if any(word in said for word in _REFUSING):
        return DatabaseUnusableError(f"the database refuses us: {said}; correct RESUMED_DATABASE_URL or the role")
    return DatabaseUnreachableError(f"the database cannot be reached: {said}; check that it runs, and the address")
