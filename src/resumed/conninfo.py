"""Owns what counts as an address of a Postgres. Connects to nothing and never repeats any part of an address.

libpq's own complaints quote the piece that it could not read, which may be a piece of the password; so everything
that would make it complain about the form is refused here first.
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

_HOST = r"(?:\[[0-9A-Fa-f:.%\w]*\]|[^\[\]:/?@,\s]*)(?::[0-9]*)?"
_URL = re.compile(
    r"(?P<scheme>postgres(?:ql)?)(?:\+\w+)?://"
    r"(?P<rest>(?:[^/?@\s]*@)?"
    rf"{_HOST}(?:,{_HOST})*"
    r"(?:/[^?@\s]*)?"
    r"(?:\?(?:\w+=[^&\s]*(?:&\w+=[^&\s]*)*)?)?)"
)
_BAD_PERCENT = re.compile(r"%(?:00|(?![0-9A-Fa-f]{2}))")
_PAIR = re.compile(r"\s*(?P<key>[a-z_]+)\s*=\s*(?:'(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)", re.DOTALL)
_LOCATES = ("host", "hostaddr", "port", "dbname", "user", "service")
_LOCATING_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")
_WRITE = "write postgresql://user:password@host:5432/name"


def checked(text: str) -> str:
    """Return the address as libpq takes it, an SQLAlchemy driver dropped; raise ValueError with a sentence."""
    written = text.strip()
    if "\0" in written:
        sentence = f"holds a NUL character, {_WRITE}"
        raise ValueError(sentence)
    return _checked_url(written) if "://" in written.partition("=")[0] else _checked_pairs(written)


def _checked_url(written: str) -> str:
    """Accept a URL that libpq can take apart in only one way."""
    match = _URL.fullmatch(written)
    if match is None:
        sentence = f"is not a Postgres URL, {_WRITE} and percent-encode what is special in the password (%40 for @)"
        raise ValueError(sentence)
    if _BAD_PERCENT.search(written) or not _readable(written):
        sentence = "has a % that starts no percent-encoded UTF-8 character, write %25 for a % in the password"
        raise ValueError(sentence)
    return f"{match['scheme']}://{match['rest']}"


def _readable(written: str) -> bool:
    """Say whether what is percent-encoded is UTF-8, as the driver takes for granted."""
    try:
        unquote_to_bytes(written).decode()
    except UnicodeDecodeError:
        return False
    return True


def _checked_pairs(written: str) -> str:
    """Accept libpq's `key=value key='value'` form."""
    position, keys = 0, set()
    while match := _PAIR.match(written, position):
        position = match.end()
        keys.add(match["key"])
    if position < len(written) or keys.isdisjoint(_LOCATES):
        sentence = f"is not an address of a Postgres, {_WRITE}"
        raise ValueError(sentence)
    return written


def located_by(environment: Mapping[str, str]) -> bool:
    """Say whether libpq's own variables name a server, a database or a service."""
    return any(environment.get(name) for name in _LOCATING_VARIABLES)
