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


class Fault(Enum):
    """What an error of the database is about."""

    UNREACHABLE = auto()
    """The session or the server is gone, or is not there yet."""
    BUSY = auto()
    """A time limit, or a lock that somebody else holds."""
    CONFLICT = auto()
    """A serialization failure or a deadlock: the same again may succeed."""
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
    "08": Fault.UNREACHABLE,
    "57": Fault.UNREACHABLE,
    "25P03": Fault.UNREACHABLE,
    "25P04": Fault.UNREACHABLE,
    "57014": Fault.BUSY,
    "55P03": Fault.BUSY,
    "55006": Fault.BUSY,
    "40": Fault.CONFLICT,
    "53": Fault.RESOURCES,
    "58": Fault.RESOURCES,
    "25006": Fault.READ_ONLY,
    "28": Fault.REFUSED,
    "3D": Fault.REFUSED,
    "42501": Fault.REFUSED,
    "3F": Fault.MISSING,
    "42P01": Fault.MISSING,
    "42703": Fault.MISSING,
    "42883": Fault.MISSING,
    "09": Fault.REJECTED,
    "0A": Fault.REJECTED,
    "21": Fault.REJECTED,
    "22": Fault.REJECTED,
    "23": Fault.REJECTED,
    "27": Fault.REJECTED,
    "42": Fault.REJECTED,
    "44": Fault.REJECTED,
    "54": Fault.REJECTED,
    "P0": Fault.REJECTED,
}
_PASSING = frozenset({Fault.UNREACHABLE, Fault.BUSY, Fault.CONFLICT, Fault.RESOURCES})
# Of a thread's own statements, on a session that lives: its values, or what was done to the tables that it saves to.
_OF_THE_STATEMENT = frozenset({Fault.REJECTED, Fault.MISSING, Fault.REFUSED})
_SENTENCES = {
    Fault.UNREACHABLE: "the session with the database was lost: {said}; try again when the database is up",
    Fault.BUSY: "the database is busy: {said}; try again, and see in pg_stat_activity what holds it up",
    Fault.CONFLICT: "the database is busy: {said}; try again",
    Fault.RESOURCES: "the database has run out of something: {said}; make room for it, then try again",
    Fault.READ_ONLY: "the database is read-only: {said}; give the primary's address, or set "
    "default_transaction_read_only to off for this role or database",
    Fault.REFUSED: "the database refuses us: {said}; correct RESUMED_DATABASE_URL or the role's rights",
    Fault.MISSING: "the database lacks something: {said}; run `resumed migrate`, and the application's "
    "`checkpointer.setup()`",
    Fault.REJECTED: "the database cannot be used: it refuses a statement: {said}; `resumed doctor` examines it",
    Fault.OTHER: "the database cannot be used: {said}; `resumed doctor` examines it",
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


def fault_of(error: psycopg.Error) -> Fault:
    """Return what an error is about."""
    code = error.sqlstate
    if code is not None:
        return next((_BY_SQLSTATE[code[:n]] for n in (5, 3, 2) if code[:n] in _BY_SQLSTATE), Fault.OTHER)
    if isinstance(error, psycopg.DataError):
        return Fault.REJECTED
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return Fault.UNREACHABLE
    return Fault.OTHER


def passing(error: psycopg.Error) -> bool:
    """Return whether trying again later may help, with nothing changed by anybody."""
    return fault_of(error) in _PASSING


def conflicting(error: psycopg.Error) -> bool:
    """Return whether the database asks for the same again: a serialization failure or a deadlock."""
    return fault_of(error) is Fault.CONFLICT


def blames_statement(error: psycopg.Error) -> bool:
    """Return whether, on a session that lives, an error is about the statement and its values and nothing else."""
    return fault_of(error) in _OF_THE_STATEMENT


def blames_value(error: psycopg.Error) -> bool:
    """Return whether a value is to blame that the database cannot take, or cannot give back."""
    return error.sqlstate is not None and error.sqlstate.startswith("22")


def refuses_writes(error: BaseException) -> bool:
    """Return whether an error means that the database is read-only."""
    return isinstance(error, psycopg.Error) and fault_of(error) is Fault.READ_ONLY


def explain(error: psycopg.Error) -> DatabaseError:
    """Turn an error into a sentence of ours; never more than its first line, which holds no value and no password."""
    fault, said = fault_of(error), first_line(error)
    if error.sqlstate is None and fault is Fault.UNREACHABLE:
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
def explained() -> Iterator[None]:
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
