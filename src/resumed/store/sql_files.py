"""Owns reading the named sections of the `.sql` files; it runs none of them."""

import re
from importlib import resources

_SECTION = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_INCLUDE = re.compile(r"^ *-- include: (\w+)$", re.MULTILINE)
_FRAGMENTS = "fragments"


def load_sql(module: str) -> dict[str, bytes]:
    """Read `sql/<module>.sql` into its sections, each ready to be executed.

    Raises FileNotFoundError for a file, KeyError for a fragment that does not exist.
    """
    fragments = _sections(_FRAGMENTS)

    def expand(body: str) -> str:
        return _INCLUDE.sub(lambda found: expand(fragments[found[1]]), body)

    return {name: expand(body).encode() for name, body in _sections(module).items()}


def sql_modules() -> list[str]:
    """Name every module that has a file of queries, in alphabetical order."""
    folder = resources.files("resumed.store") / "sql"
    names = [entry.name.removesuffix(".sql") for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return sorted(name for name in names if name != _FRAGMENTS)


def _sections(module: str) -> dict[str, str]:
    text = (resources.files("resumed.store") / "sql" / f"{module}.sql").read_text(encoding="utf-8")
    parts = _SECTION.split(text)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}
