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
_PARAMETER = re.compile(r"[A-Za-z_]{2,40}")
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_PARAMETERS = frozenset(
    """
    application_name channel_binding client_encoding connect_timeout dbname fallback_application_name gssdelegation
    gssencmode gsslib host hostaddr keepalives keepalives_count keepalives_idle keepalives_interval krbsrvname
    load_balance_hosts max_protocol_version min_protocol_version oauth_client_id oauth_client_secret oauth_issuer
    oauth_scope options passfile password port replication require_auth requirepeer scram_client_key scram_server_key
    service servicefile ssl_max_protocol_version ssl_min_protocol_version sslcert sslcertmode sslcompression sslcrl
    sslcrldir sslkey sslkeylogfile sslmode sslnegotiation sslpassword sslrootcert sslsni target_session_attrs
    tcp_user_timeout user
    """.split()  # noqa: SIM905 - a list of names, a word each
)
_INSTEAD = {
    "ssl": "write sslmode=require (or disable, or verify-full)",
    "sslaccept": "write sslmode=verify-full, or sslmode=require for `accept_invalid_certs`",
    "schema": "name the schema with RESUMED_CHECKPOINT_SCHEMA",
    "currentschema": "name the schema with RESUMED_CHECKPOINT_SCHEMA",
    "search_path": "name the schema with RESUMED_CHECKPOINT_SCHEMA",
    "pgbouncer": "leave it out, and give a direct connection or a pool in session mode",
}
_LOCATES = ("host", "hostaddr", "port", "dbname", "user", "service")
_LOCATING_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")
_WRITE = "write postgresql://user:password@host:5432/name"


def check_dsn(text: str) -> str:
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
    _check_parameters(match["rest"])
    if _BAD_PERCENT.search(written) or not _readable(written):
        sentence = "has a % that starts no percent-encoded UTF-8 character, write %25 for a % in the password"
        raise ValueError(sentence)
    return f"{match['scheme']}://{match['rest']}"


def _check_parameters(rest: str) -> None:
    """Refuse a parameter that libpq does not know, by its name; never where that may be a piece of a password."""
    _, _, query = rest.partition("?")
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name in _PARAMETERS or (name, value) == ("ssl", "true"):
            continue
        if any(sign in value for sign in "@/") or not _PARAMETER.fullmatch(name):
            sentence = f"has a parameter that Postgres does not know, {_WRITE}"
        else:
            remedy = _INSTEAD.get(name.lower(), "leave it out")
            sentence = f"has the parameter {name!r}, which Postgres does not know: {remedy}"
        raise ValueError(sentence)


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
    if position == len(written) and (unknown := keys - _PARAMETERS) and not keys.isdisjoint(_LOCATES):
        name = min(unknown)
        sentence = f"has the parameter {name!r}, which Postgres does not know: {_INSTEAD.get(name, 'leave it out')}"
        raise ValueError(sentence)
    if position < len(written) or keys.isdisjoint(_LOCATES):
        sentence = f"is not an address of a Postgres, {_WRITE}"
        raise ValueError(sentence)
    return written


def located_by(environment: Mapping[str, str]) -> bool:
    """Say whether libpq's own variables name a server, a database or a service."""
    return any(environment.get(name) for name in _LOCATING_VARIABLES)
