"""Owns sessions that are independent of the process they are opened in: of variables set later, and of its forks.

libpq reads `PG*` variables at each connect, so a worker completes its connection string before any user code runs.
"""

import os

from psycopg import conninfo, pq

from resumed.store.connection import SESSIONS

# What libpq takes where a parameter is empty, or what has to be written where it takes no empty value.
_UNSET = {
    **dict.fromkeys(("host", "hostaddr", "dbname", "user", "password", "passfile", "options", "client_encoding"), ""),
    **dict.fromkeys(("sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir", "requirepeer", "require_auth"), ""),
    **dict.fromkeys(("ssl_min_protocol_version", "ssl_max_protocol_version", "gsslib", "krbsrvname"), ""),
    **dict.fromkeys(("min_protocol_version", "max_protocol_version"), "3.0"),
    "port": "5432",
    "sslcertmode": "allow",
}
_OURS = frozenset({"application_name", "service"})


def complete_dsn(dsn: str) -> str:
    """Return the connection string with every parameter that libpq would take from a variable or a service by now.

    Where libpq cannot tell, as with a service that is not there, the string is returned as it is.
    """
    given = conninfo.conninfo_to_dict(dsn)
    service, before = given.pop("service", None), os.environ.get("PGSERVICE")
    if service is not None:
        os.environ["PGSERVICE"] = str(service)
    try:
        defaults = pq.Conninfo.get_defaults()
    except MemoryError:
        return dsn
    finally:
        if service is not None:
            os.environ.pop("PGSERVICE")
            os.environ |= {"PGSERVICE": before} if before is not None else {}
    read = {one.keyword.decode(): one.val.decode() for one in defaults if one.envvar is not None and one.val}
    unset = {one.keyword.decode() for one in defaults} & _UNSET.keys()
    kept = {**{name: _UNSET[name] for name in unset}, **read, **given}
    return conninfo.make_conninfo("", **{name: str(value) for name, value in kept.items() if name not in _OURS})


def close_sessions_in_fork() -> None:
    """In a forked child, turn every socket of a session away, without a word to the server.

    The number stays taken: a file that got it would be written to by whatever closes the session.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for session in list(SESSIONS):
        if not session.closed:
            os.dup2(nowhere, session.fileno())
    os.close(nowhere)
