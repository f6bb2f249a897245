"""User code that asks for an event loop in a thread is given one, as in the main thread of an application."""

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from resumed.runtime.node_threads import TrackedExecutor
from resumed.workflows import event_loops

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="asks for a loop that is set, in main threads too")


@pytest.fixture
def installed() -> Iterator[None]:
    before = asyncio.get_event_loop_policy()
    event_loops.install_loop_policy()
    yield
    asyncio.set_event_loop_policy(before)


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


def asks() -> asyncio.AbstractEventLoop:
    loop = asyncio.get_event_loop()
    assert loop.run_until_complete(answer()) == 42
    assert asyncio.get_event_loop() is loop
    return loop


@pytest.mark.usefixtures("installed")
def test_each_node_in_a_thread_has_a_loop_of_its_own_that_ends_with_it() -> None:
    with TrackedExecutor(1) as executor:
        first, second = (executor.submit(asks).result(20) for _ in range(2))
    assert first is not second
    assert first.is_closed()
    assert second.is_closed()


@pytest.mark.usefixtures("installed")
def test_a_node_that_ends_or_replaces_its_loop_leaves_the_next_one_a_new_one() -> None:
    def ends() -> None:
        asyncio.run(answer())
        asks().close()
        asks()

    with TrackedExecutor(1) as executor:
        for _ in range(2):
            executor.submit(ends).result(20)


@pytest.mark.usefixtures("installed")
def test_a_module_keeps_the_loop_that_it_asked_for_while_it_was_imported() -> None:
    def imports() -> asyncio.AbstractEventLoop:
        with event_loops.loop_on_demand(kept=True):
            return asks()

    with ThreadPoolExecutor(1) as threads:
        kept = threads.submit(imports).result(20)
        assert not kept.is_closed()
    with ThreadPoolExecutor(1) as threads, pytest.raises(RuntimeError):
        threads.submit(asyncio.get_event_loop).result(20)
    assert kept.run_until_complete(answer()) == 42
    kept.close()


def test_nothing_is_changed_in_an_application() -> None:
    with TrackedExecutor(1) as executor, pytest.raises(RuntimeError):
        executor.submit(asyncio.get_event_loop).result(20)
