"""The pytest plugin that is put into the run of LangGraph's own tests: `-p oracle.plugin`.

It gives them our checkpointers over journalled tables and, when a test has ended, judges every position and cut of it.
"""

import asyncio
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Generator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from oracle import cuts, positions, recording, savers
from oracle.journal import COPIES, PLAIN, journal_on
from oracle.ours import Ours
from oracle.plain import Plain
from oracle.recording import RECORDING, Call
from resumed.library import connection_pools
from support.attempting import place_at

PATIENCE = 120.0  # for all positions and cuts of one test
SILENCE = 60.0  # without any ruling: the process is lost
_BEAT = [0.0]
WANTED = {
    "sync_checkpointer": "postgres",
    "async_checkpointer": "postgres_aio",
    "cache": "memory",
    "sync_store": "in_memory",
    "async_store": "in_memory",
}
_STACK = ExitStack()
_HASTE = 0.1


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and config.getoption("numprocesses", None):
        return  # the process that only hands out tests to others
    savers.PLACE["journal"] = _STACK.enter_context(journal_on(os.environ["ORACLE_SERVER"]))
    recording.install()


def pytest_unconfigure() -> None:
    _STACK.close()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept, left = [], []
    for item in items:
        chosen = getattr(getattr(item, "callspec", None), "params", {})
        fits = all(chosen.get(name, wanted) == wanted for name, wanted in WANTED.items())
        (kept if fits else left).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left)
    theirs: Any = sys.modules["tests.conftest"]
    theirs._checkpointer_postgres = savers.journalled
    theirs._checkpointer_postgres_aio = savers.ajournalled
    for module in {getattr(item, "module", None) for item in kept} - {None}:
        for name in ("InMemorySaver", "MemorySaver"):
            if hasattr(module, name):
                setattr(module, name, savers.in_memory_no_more)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    RECORDING.calls, RECORDING.running, RECORDING.active = [], [], True
    outcome = "passed"
    try:
        return (yield)
    except BaseException as error:
        outcome = "skipped" if isinstance(error, pytest.skip.Exception) else "failed"
        raise
    finally:
        RECORDING.active = False
        calls = list(RECORDING.calls)
        if calls or outcome == "failed":
            _judged_in_time(item.nodeid, outcome, calls)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, Any, Any]:
    try:
        return (yield)
    finally:
        savers.close_left_open()


def _write(line: dict[str, Any]) -> None:
    _BEAT[0] = time.monotonic()
    folder = Path(os.environ["ORACLE_RESULTS"])
    with (folder / f"{os.getpid()}.jsonl").open("a") as lines:
        lines.write(json.dumps(line, default=str) + "\n")


def _judged_in_time(test: str, outcome: str, calls: list[Call]) -> None:
    """Judge in a thread with a loop of its own: a test's own loop may be the one that waits for us."""
    began = time.monotonic()
    thread = threading.Thread(target=_judge, args=(test, calls, began + PATIENCE), daemon=True)
    thread.start()
    while thread.is_alive() and time.monotonic() < max(began, _BEAT[0]) + SILENCE:
        thread.join(1)
    if thread.is_alive():
        frames = sys._current_frames()
        stack = "".join(traceback.format_stack(frames[thread.ident or 0])[-6:])
        _write({"test": test, "kind": "stuck", "why": f"the judging of this test never ended: {stack}"})
        with suppress(OSError):
            os._exit(70)
    spent = round(time.monotonic() - began, 2)
    _write({"test": test, "kind": "test", "outcome": outcome, "calls": len(calls), "seconds": spent})


def _judge(test: str, calls: list[Call], deadline: float) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(lambda *_: None)
    try:
        with _hasty():
            loop.run_until_complete(_all(test, calls, deadline))
    except BaseException as error:  # noqa: BLE001 - a fault of the harness is a result too
        _write({"test": test, "kind": "broken", "why": "".join(traceback.format_exception(error))[-3000:]})
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()


async def _all(test: str, calls: list[Call], deadline: float) -> None:
    journal = savers.PLACE["journal"]
    with (
        connection_pools.pool(journal.target(COPIES)) as copies,
        connection_pools.pool(journal.target(PLAIN)) as plains,
    ):
        async with place_at(journal.dsn) as place:
            ours, plain = Ours(journal, place, copies), Plain(journal, plains)
            cutter = cuts.Cutter(journal, ours, plain)
            last = {(call.source, call.thread): call for call in calls}
            earlier: dict[tuple[str, str], dict[str, Any]] = {}
            for call in calls:
                _with_breakpoints_of(call, earlier)
                ended = last[call.source, call.thread] is call
                await _one(test, call, (ours, plain, cutter), deadline, ended=ended)


def _with_breakpoints_of(call: Call, earlier: dict[tuple[str, str], dict[str, Any]]) -> None:
    """An edit brings no breakpoints and no context: those of the thread's last call still count."""
    if call.edit:
        call.options = earlier.get((call.source, call.thread), {})
    else:
        earlier[call.source, call.thread] = call.options


async def _one(test: str, call: Call, judges: tuple[Ours, Plain, cuts.Cutter], deadline: float, *, ended: bool) -> None:
    ours, plain, cutter = judges
    if time.monotonic() > deadline:
        _write({"test": test, "kind": "position", "ruling": "undecidable", "oracle": "no time left", "call": call.says})
        return
    try:
        ruling = await positions.judge(call, ours, plain)
    except Exception as error:  # noqa: BLE001
        why = "".join(traceback.format_exception(error))[-1500:]
        _write(
            {"test": test, "kind": "position", "ruling": "undecidable", "oracle": "?", "call": call.says, "why": why}
        )
        return
    _write({"test": test, "kind": "position", "ruling": ruling.kind, "oracle": ruling.oracle, "ours": ruling.ours,
            "why": ruling.why, "call": call.says, "ended": ended, "thread": call.thread})  # fmt: skip
    if call.edit:
        return
    points, omitted = cutter.points(call)
    whole = await cutter.undisturbed(call, ruling.oracle)
    for number, xid in enumerate(points, 1):
        if time.monotonic() > deadline:
            omitted += len(points) - number + 1
            break
        await _cut(test, whole, cutter, (number, xid))
    if omitted:
        _write({"test": test, "kind": "omitted", "cuts": omitted, "call": call.says})


async def _cut(test: str, whole: cuts.Undisturbed, cutter: cuts.Cutter, point: tuple[int, int]) -> None:
    try:
        async with asyncio.timeout(30):
            ruling = await cutter.judge(whole, point[1])
    except Exception as error:  # noqa: BLE001
        ruling = cuts.Ruling("unexplained", "".join(traceback.format_exception(error))[-1500:])
    _write({"test": test, "kind": "cut", "ruling": ruling.kind, "why": ruling.why, "call": whole.call.says,
            "cut": point[0]})  # fmt: skip


class _hasty:  # noqa: N801 - a context manager by the look of its use
    """Let time pass ten times as fast for what sleeps while we judge: the order stays, the waiting goes."""

    def __enter__(self) -> None:
        self._sleep, self._asleep = time.sleep, asyncio.sleep
        sleep, asleep = self._sleep, self._asleep
        time.sleep = lambda seconds: sleep(seconds * _HASTE)
        asyncio.sleep = lambda delay, result=None: asleep(delay * _HASTE, result)  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        time.sleep, asyncio.sleep = self._sleep, self._asleep  # type: ignore[assignment]
