"""Owns the table of workflow versions that the replicas' workers have: names, versions, triggers and limits."""

from collections.abc import Sequence
from dataclasses import asdict

from psycopg.rows import DictRow

from resumed.model import PolicyLimits, PruneStrategy, Registration
from resumed.store.connection import Session
from resumed.store.sql_files import load_sql

_SQL = load_sql("workflow_versions")
_NUMBERS = tuple(PolicyLimits.__dataclass_fields__)


async def announce_versions(session: Session, registrations: Sequence[Registration]) -> None:
    """Write or renew what a worker has, at the database's time."""
    for version in registrations:
        parameters: dict[str, object] = {"name": version.name, "version": version.version}
        parameters |= {"accepts": list(version.accepts), "triggers": list(version.triggers)}
        parameters |= {"retention": version.retention, "retain": version.retain}
        await session.execute(_SQL["announce"], {**parameters, **asdict(version.numbers)})


async def known_versions(session: Session) -> list[Registration]:
    """Read every version that was seen in the last thirty days."""
    cursor = await session.execute(_SQL["all"])
    return [_registration(row) async for row in cursor]


def _registration(row: DictRow) -> Registration:
    return Registration(
        name=row["name"],
        version=row["version"],
        accepts=tuple(row["accepts"]),
        triggers=tuple(row["triggers"]),
        numbers=PolicyLimits(**{name: row[name] for name in _NUMBERS}),
        seen_at=row["seen_at"],
        retention=PruneStrategy(row["retention"]) if row["retention"] is not None else None,
        retain=row["retain"],
    )
