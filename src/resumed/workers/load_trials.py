"""Finds out which registration harms the process that loads it: each is loaded by itself, in a process that is watched.

Never blames what was announced last. What was found guilty, and what could not be imported, is tried again the same
way with back-off, so that no serving worker has to find out.
"""

import asyncio
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from resumed import timings
from resumed.workers.process import WorkerExit, WorkerProcess, WorkerStart
from resumed.workers.protocol import Message

_SILENCE = timedelta(seconds=60)
_END = timedelta(seconds=1)
_MARGIN = timedelta(seconds=2)
_AGAIN_CAP = timedelta(minutes=15)
_FRUITLESS = 2
_DEATHS = 2
_KILLS = 3


@dataclass(slots=True)
class _Retry:
    """When a registration that cannot be loaded is tried again; `dwell` is for how long it is then watched."""

    at: float
    failures: int = 1
    dwell: timedelta = timedelta(0)


@dataclass(slots=True)
class LoadTrials:
    """The trials of one pool; `excluded` maps the names that no worker is to import to the reason.

    `spawn_for` says how to start a process that loads one name alone, `at_once` how many there may be.
    """

    spawn_for: Callable[[str], WorkerStart]
    at_once: int = 1
    excluded: dict[str, str] = field(default_factory=dict)
    running: int = 0
    progress: int = 0
    handles: list[WorkerProcess] = field(default_factory=list)
    _sound: dict[str, timedelta] = field(default_factory=dict)
    _fruitless: dict[str, int] = field(default_factory=dict)
    _retries: dict[str, _Retry] = field(default_factory=dict)
    _guard: asyncio.Lock = field(default_factory=asyncio.Lock)
    _closed: bool = False

    async def judge(self, exited: WorkerExit, entries: Sequence[str]) -> bool:
        """Try what a worker had loaded that ended; returns whether anything was excluded.

        What was being imported is tried first, and the others only where it is innocent.
        """
        self.running += 1
        try:
            async with self._guard:
                dwell = min(exited.lived * 1.5 + _MARGIN, timings.current().trial_dwell)
                left = [one for one in entries if one not in self.excluded]
                first = [exited.loading] if exited.loading in left else []
                if await self._guilty_of(first, dwell) or await self._guilty_of(self._untried(left, dwell), dwell):
                    return True
                return self._in_company(exited, first)
        finally:
            self.running -= 1

    async def again(self, unloaded: Iterable[str], now: float) -> list[str]:
        """Try what could not be loaded and is to be tried again by now; returns what can be loaded after all."""
        waiting = {*unloaded, *self.excluded}
        for name in self._retries.keys() - waiting:
            del self._retries[name]
        for name in waiting - self._retries.keys():
            self._retries[name] = _Retry(now + timings.current().retry_load.total_seconds())
        due = [name for name, retry in self._retries.items() if retry.at <= now]
        return [name for name in due if await self._sound_now(name, self._retries[name], now)]

    def set_aside(self, name: str, reason: str) -> None:
        """Have no worker import what does not end: each would wait for it."""
        if name not in self.excluded:
            self._exclude(name, reason, timedelta(0))

    def close(self) -> None:
        """End every trial, and begin no other."""
        self._closed = True
        for handle in self.handles:
            handle.kill()

    async def _guilty_of(self, names: Sequence[str], dwell: timedelta) -> bool:
        """Try these, some at once, and exclude the guilty."""
        places = asyncio.Semaphore(self.at_once)

        async def tried(name: str) -> str | None:
            async with places:
                return (await self._alone(name, dwell))[0]

        reasons = await asyncio.gather(*(tried(name) for name in names))
        for name, reason in zip(names, reasons, strict=True):
            if reason is not None:
                self._exclude(name, reason, dwell)
            else:
                self._sound[name] = max(dwell, self._sound.get(name, dwell))
        return any(reason is not None for reason in reasons)

    def _untried(self, names: Sequence[str], dwell: timedelta) -> list[str]:
        return [name for name in names if self._sound.get(name, timedelta(-1)) < dwell]

    def _in_company(self, exited: WorkerExit, first: Sequence[str]) -> bool:
        """Exclude what harms a process only together with others, once that has been seen twice."""
        for name in first:
            self._fruitless[name] = self._fruitless.get(name, 0) + 1
            if self._fruitless[name] >= _FRUITLESS:
                did = exited.spoilt or f"the process ends (exit {exited.code})"
                self._exclude(name, f"its import harms the process in which others are loaded: {did}", timedelta(0))
                return True
        return False

    def _exclude(self, name: str, reason: str, dwell: timedelta) -> None:
        self.excluded[name] = reason
        self._sound.pop(name, None)
        now = asyncio.get_running_loop().time()
        self._retries[name] = _Retry(now + timings.current().retry_load.total_seconds(), dwell=dwell)

    async def _sound_now(self, name: str, retry: _Retry, now: float) -> bool:
        reason, imported = await self._alone(name, retry.dwell)
        if reason is None and imported:
            del self._retries[name]
            self.excluded.pop(name, None)
            return True
        if reason is not None:
            self.excluded[name] = reason
        pause = min(_AGAIN_CAP, timings.current().retry_load * (1 << min(retry.failures, 16)))
        retry.at, retry.failures = now + pause.total_seconds(), retry.failures + 1
        return False

    async def _alone(self, name: str, dwell: timedelta) -> tuple[str | None, bool]:
        """Load one registration in a process that is watched; returns what it did to that, and whether it imported.

        A process that ends may have been ended by somebody else, SIGKILL most of all, which the kernel sends when
        memory is short: what its import did, it does again.
        """
        deaths = 1
        ended, imported = await self._once(name, dwell)
        while ended is not None and deaths < _needed(ended):
            deaths += 1
            ended, imported = await self._once(name, dwell)
        return (_deed(ended) if ended is not None else None), imported

    async def _once(self, name: str, dwell: timedelta) -> tuple[WorkerExit | None, bool]:
        """Load it once; returns how the process ended where it did, and whether the registration was imported."""
        if self._closed:
            return None, False
        greeted = asyncio.Event()

        def hear(message: Message) -> None:
            self.progress += 1
            if message["kind"] == "hello":
                greeted.set()

        handle = await WorkerProcess.spawn(self.spawn_for(name))
        self.handles.append(handle)
        life = asyncio.create_task(handle.attend(hear, _SILENCE))
        greeting = asyncio.create_task(greeted.wait())
        try:
            await asyncio.wait({life, greeting}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({life}, timeout=dwell.total_seconds())
            if life.done():
                return life.result(), False
            handle.send({"kind": "end"})
            await asyncio.wait({life}, timeout=_END.total_seconds())
            return None, name not in handle.unloaded
        finally:
            greeting.cancel()
            handle.kill()
            self.handles.remove(handle)
            await asyncio.wait({life})


def _needed(exited: WorkerExit) -> int:
    """Return how often a process has to end like this until what it loaded is held to be the reason."""
    if exited.spoilt is not None or exited.silent:
        return 1
    return _KILLS if exited.code == -signal.SIGKILL else _DEATHS


def _deed(exited: WorkerExit) -> str:
    """Say what a registration did to the process that had loaded nothing else."""
    if exited.spoilt is not None:
        return f"its import changes the process for all others: {exited.spoilt}"
    if exited.silent:
        return "its import hangs the process that loads it"
    when = f", {exited.lived.total_seconds():.1f} s after it was loaded" if exited.greeted else ""
    return f"its import ended the worker process (exit {exited.code}){when}"
