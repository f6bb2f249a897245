"""Owns how text travels on a session: UTF-8 whatever the defaults, and bytes that are no text where nobody checks them.

A database in SQL_ASCII knows no encoding: it holds whatever bytes it was given, and asked for UTF-8 it refuses a whole
answer for the sake of one value. So it is asked for its bytes, and those that are not UTF-8 travel as lone surrogates,
there and back again unchanged.
"""

from typing import Any

from psycopg import AsyncConnection, Connection, pq
from psycopg.adapt import Loader
from psycopg.types.string import StrBinaryDumper, StrDumper, StrDumperName, StrDumperUnknown, StrDumperVarchar

_UTF8 = "UTF8"
_BYTES = "SQL_ASCII"
_TYPES = ("text", "varchar", "bpchar", "name")
_ERRORS = "surrogateescape"


def encode_text(text: str) -> bytes:
    """Return the bytes that a text of the database stands for."""
    return text.encode("utf-8", _ERRORS)


def is_text(value: str) -> bool:
    """Return whether a value of the database is text at all."""
    return not any("\ud800" <= char <= "\udfff" for char in value)


def fit_text(session: AsyncConnection[Any], text: str | None) -> str | None:
    """Return a text for people as the database can hold it: only ASCII is sure to fit another encoding than UTF-8."""
    if text is None or session.info.parameter_status("server_encoding") in (_UTF8, _BYTES):
        return text
    return text.encode("ascii", "replace").decode()


def adapt_text(session: AsyncConnection[Any] | Connection[Any]) -> str:
    """Make a session's texts travel as its database needs it, and return the `client_encoding` for that."""
    if session.info.parameter_status("server_encoding") != _BYTES:
        return _UTF8
    for name in _TYPES:
        session.adapters.register_loader(name, _TextLoader)
        session.adapters.register_loader(name, _BinaryLoader)
    for dumper in _DUMPERS:
        session.adapters.register_dumper(str, dumper)
    return _BYTES


class _TextLoader(Loader):
    def load(self, data: Any) -> str:
        return bytes(data).decode("utf-8", _ERRORS)


class _BinaryLoader(_TextLoader):
    format = pq.Format.BINARY


def _lenient(dumper: Any) -> Any:
    """Make a dumper of psycopg's that takes lone surrogates for the bytes that they stand for."""

    class Lenient(dumper):  # type: ignore[misc]
        def dump(self, obj: str) -> Any:
            try:
                return super().dump(obj)
            except UnicodeEncodeError:
                return encode_text(obj)

    return Lenient


# The last of a format is the one that psycopg takes where nothing else decides.
_DUMPERS = tuple(map(_lenient, (StrBinaryDumper, StrDumperVarchar, StrDumperName, StrDumper, StrDumperUnknown)))
