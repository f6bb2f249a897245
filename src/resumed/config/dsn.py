"""Validates Postgres addresses. Connects to nothing and never quotes any part of an address.

libpq's own error messages quote what they could not parse, which may be part of the password. So every malformed
address is refused here first.
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
_KEY_VALUE = re.compile(r"\s*(?P<key>[a-z_]+)\s*=\s*(?:'(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)", re.DOTALL)
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
_REMEDIES = {
    "ssl": "write sslmode=require (or disable, or verify-full)",
    "sslaccept": "write sslmode=verify-full, or sslmode=require for `accept_invalid_certs`",
    "schema": "name the schema with RESUMED_CHECKPOINT_SCHEMA",
    "currentschema": "name the schema with RESUMED_CHECKPOINT_SCHEMA",
    "search_path": "name the schema with RESUMED_CHECKPOINT_SCHEMA",
    "pgbouncer": "leave it out, and give a direct connection or a pool in session mode",
}
_ADDRESS_KEYS = ("host", "hostaddr", "port", "dbname", "user", "service")
_ADDRESS_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")
_EXAMPLE = "write postgresql://user:password@host:5432/name"


def check_dsn(text: str) -> str:
    """Return the address in libpq's form, without an SQLAlchemy driver; raise ValueError with the remedy."""
    address = text.strip()
    if "\0" in address:
        sentence = f"holds a NUL character, {_EXAMPLE}"
        raise ValueError(sentence)
    return _check_url(address) if "://" in address.partition("=")[0] else _check_key_values(address)


def _check_url(address: str) -> str:
    """Return the URL without a driver if libpq can parse it in only one way; raise ValueError otherwise."""
    match = _URL.fullmatch(address)
    if match is None:
        sentence = f"is not a Postgres URL, {_EXAMPLE} and percent-encode what is special in the password (%40 for @)"
        raise ValueError(sentence)
    _check_parameters(match["rest"])
    if _BAD_PERCENT.search(address) or not _is_percent_encoded_utf8(address):
        sentence = "has a % that starts no percent-encoded UTF-8 character, write %25 for a % in the password"
        raise ValueError(sentence)
    return f"{match['scheme']}://{match['rest']}"


def _check_parameters(rest: str) -> None:
    """Raise ValueError for a parameter unknown to libpq; name it only if it cannot be part of a password."""
    _, _, query = rest.partition("?")
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name in _PARAMETERS or (name, value) == ("ssl", "true"):
            continue
        if any(sign in value for sign in "@/") or not _PARAMETER.fullmatch(name):
            sentence = f"has a parameter that Postgres does not know, {_EXAMPLE}"
        else:
            remedy = _REMEDIES.get(name.lower(), "leave it out")
            sentence = f"has the parameter {name!r}, which Postgres does not know: {remedy}"
        raise ValueError(sentence)


def _is_percent_encoded_utf8(address: str) -> bool:
    """Return whether the percent-encoded parts are UTF-8, which the driver assumes."""
    try:
        unquote_to_bytes(address).decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_key_values(address: str) -> str:
    """Return an address in libpq's `key=value key='value'` form unchanged; raise ValueError if it is malformed."""
    position, keys = 0, set()
    while match := _KEY_VALUE.match(address, position):
        position = match.end()
        keys.add(match["key"])
    if position == len(address) and (unknown := keys - _PARAMETERS) and not keys.isdisjoint(_ADDRESS_KEYS):
        name = min(unknown)
        sentence = f"has the parameter {name!r}, which Postgres does not know: {_REMEDIES.get(name, 'leave it out')}"
        raise ValueError(sentence)
    if position < len(address) or keys.isdisjoint(_ADDRESS_KEYS):
        sentence = f"is not an address of a Postgres, {_EXAMPLE}"
        raise ValueError(sentence)
    return address


def has_libpq_address(environment: Mapping[str, str]) -> bool:
    """Return whether libpq's own `PG*` variables name a server, a database or a service."""
    return any(environment.get(name) for name in _ADDRESS_VARIABLES)
