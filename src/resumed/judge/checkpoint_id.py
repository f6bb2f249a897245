"""Owns the time in a checkpoint id. LangGraph's ids are UUIDv6: their text sorts by when they were made."""

import re
from datetime import UTC, datetime, timedelta

# A host that is further ahead of the database makes ids that hide what others save: it makes no attempt.
CLOCK_LIMIT = timedelta(seconds=2)

_UUID6 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-6[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_EPOCH = datetime(1582, 10, 15, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def made_at(checkpoint_id: str) -> datetime | None:
    """Return when the id was made, by its maker's clock, to the microsecond; None for an id that is not a UUIDv6."""
    if not _UUID6.fullmatch(checkpoint_id):
        return None
    digits = checkpoint_id.replace("-", "")
    ticks = int(digits[:12] + digits[13:16], 16)
    try:
        return _EPOCH + timedelta(microseconds=ticks // 10)
    except OverflowError:
        return None


def first_at(instant: datetime) -> str:
    """Return the lowest text that an id made at `instant` (aware) can have; for windows over ids."""
    ticks = max((instant - _EPOCH) // _TICK, 0) * 10
    digits = f"{ticks:015x}"
    return f"{digits[:8]}-{digits[8:12]}-6{digits[12:]}-0000-000000000000"


def plausible_span(now: datetime) -> tuple[str, str]:
    """Return the lowest and highest texts of ids with a plausible time; other ids count as without a time."""
    return first_at(_UNIX_EPOCH), first_at(now + timedelta(days=3650))
