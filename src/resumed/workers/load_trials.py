"""Finds out which entry harms the process that loads it, by loading each alone in a process that is watched.

It never blames the entry that was announced last without a trial. Excluded entries, and those that could not be
imported, are tried again in the same way with back-off, so that no serving worker runs the risk.
"""

import asyncio
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from resumed import timings
from resumed.workers.child import WorkerStart
from resumed.workers.process import WorkerExit, WorkerProcess
from resumed.workers.protocol import EndWorker, FromWorker, WorkerReady

_SILENCE = timedelta(seconds=60)
_END_GRACE = timedelta(seconds=1)
_DWELL_MARGIN = timedelta(seconds=2)
_RETRY_CAP = timedelta(minutes=15)
_INCONCLUSIVE_TRIALS = 2
_DEATHS_FOR_PROOF = 2
_KILLS_FOR_PROOF = 3


@dataclass(slots=True)
class _Retry:
    """When an entry that cannot be loaded is tried again (monotonic seconds), and how long it is then watched."""

    at: float
    failures: int = 1
    dwell: timedelta = timedelta(0)


@dataclass(slots=True)
class LoadTrials:
    """The trials of one pool. `excluded` maps the names that no worker may import to the reason.

    `start_of` returns how to start a process that loads one name alone; `at_once` is how many may run side by side.
    `running` counts the trials that run; `progress` grows with every sign of life of any worker of the pool.
    """

    start_of: Callable[[str], WorkerStart]
    at_once: int = 1
    excluded: dict[str, str] = field(default_factory=dict)
    running: int = 0
    progress: int = 0
    workers: list[WorkerProcess] = field(default_factory=list)
    _innocent: dict[str, timedelta] = field(default_factory=dict)
    _inconclusive: dict[str, int] = field(default_factory=dict)
    _retries: dict[str, _Retry] = field(default_factory=dict)
    _guard: asyncio.Lock = field(default_factory=asyncio.Lock)
    _died_early_at: float | None = None
    _closed: bool = False

    async def try_entries(self, exited: WorkerExit, entries: Sequence[str]) -> bool:
        """Try the entries of a worker that died; return whether any was excluded.

        The one that was being imported is tried first, and the others only if it is innocent.
        """
        self.running += 1
        try:
            async with self._guard:
                dwell = min(exited.lived * 1.5 + _DWELL_MARGIN, timings.current().trial_dwell)
                left = [name for name in entries if name not in self.excluded]
                first = [exited.loading] if exited.loading in left else []
                if await self._exclude_guilty(first, dwell):
                    return True
                untried = [name for name in left if self._innocent.get(name, timedelta(-1)) < dwell]
                return await self._exclude_guilty(untried, dwell) or self._exclude_inconclusive(exited, first)
        finally:
            self.running -= 1

    def repeats_early_death(self, exited: WorkerExit) -> bool:
        """Remember a worker that died soon after it registered; return whether another one did so shortly before."""
        probation = timings.current().probation
        if exited.lived >= probation:
            return False
        now = asyncio.get_running_loop().time()
        before, self._died_early_at = self._died_early_at, now
        return before is not None and now - before < 2 * probation.total_seconds()

    async def retry_due(self, unloaded: Iterable[str], now: float) -> list[str]:
        """Try the excluded and unloaded entries whose back-off is over; return those that can be loaded after all."""
        waiting = {*unloaded, *self.excluded}
        for name in self._retries.keys() - waiting:
            del self._retries[name]
        for name in waiting - self._retries.keys():
            self._retries[name] = _Retry(now + timings.current().retry_load.total_seconds())
        due = [name for name, retry in self._retries.items() if retry.at <= now]
        return [name for name in due if await self._retry(name, self._retries[name], now)]

    def exclude_hung(self, name: str, reason: str) -> None:
        """Exclude an entry whose import does not end: every worker would wait for it."""
        if name not in self.excluded:
            self._exclude(name, reason, timedelta(0))

    def close(self) -> None:
        """End every trial, and start no other."""
        self._closed = True
        for worker in self.workers:
            worker.kill()

    async def _exclude_guilty(self, names: Sequence[str], dwell: timedelta) -> bool:
        """Try these entries, some side by side, and exclude the guilty; return whether there were any."""
        places = asyncio.Semaphore(self.at_once)

        async def try_in_place(name: str) -> str | None:
            async with places:
                return (await self._try_alone(name, dwell))[0]

        reasons = await asyncio.gather(*(try_in_place(name) for name in names))
        for name, reason in zip(names, reasons, strict=True):
            if reason is not None:
                self._exclude(name, reason, dwell)
            else:
                self._innocent[name] = max(dwell, self._innocent.get(name, dwell))
        return any(reason is not None for reason in reasons)

    def _exclude_inconclusive(self, exited: WorkerExit, loading: Sequence[str]) -> bool:
        """Exclude an entry that is harmless alone, once workers have died twice while they imported it with others."""
        for name in loading:
            self._inconclusive[name] = self._inconclusive.get(name, 0) + 1
            if self._inconclusive[name] >= _INCONCLUSIVE_TRIALS:
                harm = exited.tainted or f"the process ends (exit {exited.code})"
                self._exclude(name, f"its import harms the process in which others are loaded: {harm}", timedelta(0))
                return True
        return False

    def _exclude(self, name: str, reason: str, dwell: timedelta) -> None:
        self.excluded[name] = reason
        self._innocent.pop(name, None)
        now = asyncio.get_running_loop().time()
        self._retries[name] = _Retry(now + timings.current().retry_load.total_seconds(), dwell=dwell)

    async def _retry(self, name: str, retry: _Retry, now: float) -> bool:
        """Try an entry again; return whether it can be loaded after all."""
        reason, imported = await self._try_alone(name, retry.dwell)
        if reason is None and imported:
            del self._retries[name]
            self.excluded.pop(name, None)
            return True
        if reason is not None:
            self.excluded[name] = reason
        pause = min(_RETRY_CAP, timings.current().retry_load * (1 << min(retry.failures, 16)))
        retry.at, retry.failures = now + pause.total_seconds(), retry.failures + 1
        return False

    async def _try_alone(self, name: str, dwell: timedelta) -> tuple[str | None, bool]:
        """Load one entry in a process that is watched; return the harm that it did, and whether it was imported.

        A process may be killed for other reasons, by the kernel above all when memory is short: the death counts as
        the entry's doing only if it happens again.
        """
        deaths = 1
        exited, imported = await self._load_once(name, dwell)
        while exited is not None and deaths < _deaths_for_proof(exited):
            deaths += 1
            exited, imported = await self._load_once(name, dwell)
        return (_harm_done(exited) if exited is not None else None), imported

    async def _load_once(self, name: str, dwell: timedelta) -> tuple[WorkerExit | None, bool]:
        """Load an entry once; return how the process died if it did, and whether the entry was imported."""
        if self._closed:
            return None, False
        registered = asyncio.Event()

        def on_message(message: FromWorker) -> None:
            self.progress += 1
            if isinstance(message, WorkerReady):
                registered.set()

        worker = await WorkerProcess.spawn(self.start_of(name))
        self.workers.append(worker)
        life = asyncio.create_task(worker.listen(on_message, _SILENCE))
        registration = asyncio.create_task(registered.wait())
        try:
            await asyncio.wait({life, registration}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({life}, timeout=dwell.total_seconds())
            if life.done():
                return life.result(), False
            worker.send(EndWorker())
            await asyncio.wait({life}, timeout=_END_GRACE.total_seconds())
            return None, name not in worker.imports.unloaded
        finally:
            registration.cancel()
            worker.kill()
            self.workers.remove(worker)
            await asyncio.wait({life})


def _deaths_for_proof(exited: WorkerExit) -> int:
    """Return how often a process must end like this before the entry that it loaded is excluded."""
    if exited.tainted is not None or exited.silent:
        return 1
    return _KILLS_FOR_PROOF if exited.code == -signal.SIGKILL else _DEATHS_FOR_PROOF


def _harm_done(exited: WorkerExit) -> str:
    """Return what an entry did to the process that had loaded nothing else."""
    if exited.tainted is not None:
        return f"its import changes the process for all others: {exited.tainted}"
    if exited.silent:
        return "its import hangs the process that loads it"
    when = f", {exited.lived.total_seconds():.1f} s after it was loaded" if exited.registered else ""
    return f"its import ended the worker process (exit {exited.code}){when}"
