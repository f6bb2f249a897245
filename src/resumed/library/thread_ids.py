"""Makes ids for threads, so that a person who reads one knows what it belongs to."""

import re
import secrets
from datetime import UTC, datetime

_UNFIT = re.compile(r"\s+")


def generate_thread_id(workflow: str, user_id: str | None = None) -> str:
    """Make an id for a new thread: `<workflow>_[<user>_]<YYYYMMDDhhmmss>_<16 hex digits>`, the time in UTC.

    The workflow's name stands first, by which the daemon knows the thread even where its metadata names none. Spaces
    become hyphens. Raises ValueError for an empty workflow.
    """
    if not workflow.strip():
        message = "a thread id begins with the name of its workflow, and that is empty"
        raise ValueError(message)
    parts = [workflow, user_id, f"{datetime.now(UTC):%Y%m%d%H%M%S}", secrets.token_hex(8)]
    return "_".join(_UNFIT.sub("-", part.strip()) for part in parts if part)
