"""Owns reading the named sections of the `.sql` files; it runs none of them."""

import re
from importlib import resources

_SECTION = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_sql(module: str) -> dict[str, bytes]:
    """Read `sql/<module>.sql` into its sections, each ready to be executed. Raises FileNotFoundError."""
    text = (resources.files("resumed.store") / "sql" / f"{module}.sql").read_text(encoding="utf-8")
    parts = _SECTION.split(text)
    return {name: body.strip().encode() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def sql_modules() -> list[str]:
    """Name every module that has a file of queries, in alphabetical order."""
    folder = resources.files("resumed.store") / "sql"
    return sorted(entry.name.removesuffix(".sql") for entry in folder.iterdir() if entry.name.endswith(".sql"))
