"""Owns how much memory a worker may have: the kernel's limit on it, its share of the container, what it has now."""

import resource
import threading
from pathlib import Path

_CONTROL_PROCESS = 150 * 2**20
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_UNLIMITED = 2**60
_THREAD_STACK = 2 * 2**20
_NEAR = 0.8
_GROWN = 1.25


def worker_share(workers: int) -> int | None:
    """Return one worker's share, in bytes, of the container's memory less the control process's; None: no limit.

    The container's limit is read from the cgroup, version 2 or 1.
    """
    limit = _container_limit()
    return None if limit is None else max(limit - _CONTROL_PROCESS, 0) // workers or None


def confine(limit: int | None) -> None:
    """Have the kernel refuse this process more than `limit` bytes of private memory.

    Such memory counts as soon as it is reserved, so threads get smaller stacks.
    """
    if limit is None:
        return
    threading.stack_size(_THREAD_STACK)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))


def used_bytes(pid: int) -> int | None:
    """Read how many bytes count against a process's limit; None where the system does not report it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), None)


def is_near_limit(now: int | None, at_start: int | None, limit: int | None) -> bool:
    """Return whether a worker is close to its limit because of what it has allocated since its start."""
    return limit is not None and now is not None and now > limit * _NEAR and now > (at_start or 0) * _GROWN


def exhausted(error: BaseException | None) -> bool:
    """Return whether an error, or one that caused it, means that the process has no memory left for any thread."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, MemoryError) or (
            isinstance(error, RuntimeError) and "can't start new thread" in str(error)
        ):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _container_limit() -> int | None:
    for name in _LIMITS:
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _UNLIMITED:
            return int(text)
    return None
