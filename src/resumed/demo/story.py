"""The order of the demo: a server, an application, its death, the daemon, the count. Other modules own the parts."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from resumed.demo import advice, example
from resumed.demo.example import THREADS, Example
from resumed.demo.postgres import PrivateServer
from resumed.demo.replica import MIN_AGE_SECONDS, Command, Replica
from resumed.demo.sandbox import DemoError, Job, Sandbox, reraise_interrupt
from resumed.demo.screen import Screen
from resumed.demo.tally import Tally
from resumed.judge.verdict import INTERRUPT
from resumed.store import checkpoints, schema
from resumed.store.connection import Target, open_session

_POLL_INTERVAL = 0.1
_TIMEOUT = 60.0
_SHOWN_EVENTS = frozenset({"worker.died", "worker.killed", "thread.failed", "database.failed", "case.quarantined"})


@dataclass(frozen=True, slots=True)
class Demo:
    """Everything that the steps of the demo share."""

    screen: Screen
    sandbox: Sandbox
    example: Example
    command: Command
    tally: Tally


def run_demo(*, keep: bool) -> int:
    """Run the demo and return its exit code. Raises ResumedError if it cannot go on."""
    example.require_installed()
    began = time.monotonic()
    with reraise_interrupt() as check_interrupt, Screen() as screen, Sandbox() as sandbox:
        undisturbed = example.start_undisturbed(sandbox)
        screen.step("A private Postgres, and LangGraph's tables in it")
        with PrivateServer(sandbox.folder / "postgres") as server:
            sandbox.watch(server.pid, signal.SIGINT)
            demo = _set_up(screen, sandbox, server.dsn(), undisturbed)
            killed_at = _kill_the_application(demo)
            _judge(demo, killed_at)
            replica = _resume(demo, killed_at)
            code = _count(demo)
            check_interrupt()
            screen.say(f"The demo took {time.monotonic() - began:.1f} s.")
            if keep:
                advice.wait(screen, demo.command, replica)
            return code


def _set_up(screen: Screen, sandbox: Sandbox, dsn: str, undisturbed: Job) -> Demo:
    screen.say(f"{dsn}, its data in {sandbox.folder}")
    application = Example(sandbox, dsn)
    application.set_up()
    screen.step("resumed migrate")
    asyncio.run(schema.migrate(Target(dsn), tell=screen.say))
    tally = Tally(example.read_undisturbed_states(sandbox, undisturbed))
    return Demo(screen, sandbox, application, Command(sandbox, application), tally)


def _kill_the_application(demo: Demo) -> float:
    """Run the application until every thread has begun and one waits for a person, then kill it."""
    screen = demo.screen
    screen.step(f"An application begins {THREADS} threads of four workflows")
    running = demo.example.run()
    asyncio.run(_wait_until_begun(demo, running))
    demo.sandbox.kill(running)
    killed_at = time.monotonic()
    effects = demo.example.effects()
    screen.say(
        f"kill -9 {running.process.pid}: dead after {effects.ended} nodes, with {effects.begun - effects.ended} running"
    )
    return killed_at


async def _wait_until_begun(demo: Demo, running: Job) -> None:
    deadline = time.monotonic() + _TIMEOUT
    async with open_session(Target(demo.example.dsn), "resumed demo") as session:
        while True:
            found = await checkpoints.snapshots(session, list(demo.tally.threads))
            asked = any(row.channel == INTERRUPT for thread in found.values() for row in thread.rows)
            if len(found) == THREADS and asked:
                return
            if running.ended or time.monotonic() > deadline:
                message = f"the application did not begin its threads in time: {running.last_log_line()}"
                raise DemoError(message)
            demo.screen.progress(f"{len(found)} threads begun, {demo.example.effects().ended} nodes have run")
            await asyncio.sleep(_POLL_INTERVAL)


def _judge(demo: Demo, killed_at: float) -> None:
    demo.screen.step("resumed scan: what a sweep finds and how it judges it; changes nothing")
    demo.tally.record_stops(demo.example.states())
    # A thread whose lock is free counts as dead once it has been quiet for RESUMED_MIN_AGE.
    time.sleep(max(0.0, killed_at + MIN_AGE_SECONDS - time.monotonic()))
    found = demo.command.scan()
    demo.tally.record_verdicts(found)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for thread in found:
        groups.setdefault((thread["verdict"], thread["action"]), []).append(thread)
    for (verdict, action), threads in sorted(groups.items()):
        demo.screen.say(
            f"{verdict:8} {len(threads):3}  -> {action:7} for example {threads[0]['thread_id']}: {threads[0]['reason']}"
        )
    done = sum(thread.verdict == "finished" for thread in demo.tally.threads.values())
    demo.screen.say(f"finished {done:3}  -> none    they ended before the kill and are not touched")


def _resume(demo: Demo, killed_at: float) -> Replica:
    demo.screen.step("resumed run: the daemon resumes what is safe to resume")
    replica = demo.command.run()
    deadline = time.monotonic() + _TIMEOUT
    _follow(demo, replica, lambda: demo.tally.done or time.monotonic() > deadline)
    outcomes = Counter(thread.outcome for thread in demo.tally.threads.values() if thread.attempts)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    demo.screen.say(f"{counts or 'nothing'}, {time.monotonic() - killed_at:.1f} s after the kill")
    return replica


def _follow(demo: Demo, replica: Replica, enough: Callable[[], bool]) -> None:
    """Show the daemon's log until `enough` returns true. Raises DemoError if the daemon ends."""
    while not enough():
        for line in replica.read_log():
            _show_event(demo, line)
        demo.screen.board(demo.tally)
        if replica.job.ended:
            message = f"the daemon ended by itself: {replica.job.last_log_line()}"
            raise DemoError(message)
        time.sleep(_POLL_INTERVAL)


def _show_event(demo: Demo, line: dict[str, Any]) -> None:
    ended = demo.tally.apply_log_line(line)
    if ended is not None:
        demo.screen.show_briefly(f"{ended.thread_id}: {ended.verdict} at {ended.stopped_at} -> {ended.outcome}")
    match line["event"]:
        case "http.opened":
            demo.screen.say(f"metrics and health on http://127.0.0.1:{line['port']}")
        case "sweep.finished":
            demo.screen.show_briefly(f"sweep: {line['rows']} checkpoints looked at, {line['cases']} cases written")
        case event if event in _SHOWN_EVENTS:
            demo.screen.show_briefly(f"{event}: {line.get('thread_id') or line.get('worker') or line.get('error')}")


def _count(demo: Demo) -> int:
    """Compare with an undisturbed run, print the counts, and return the exit code."""
    demo.screen.step("How every thread ended")
    states = demo.example.states()
    faults = demo.tally.find_faults(states)
    demo.screen.table(list(demo.tally.threads.values()))
    effects = demo.example.effects()
    demo.screen.say(
        f"Side effects: {effects.nodes} nodes, begun {effects.begun} times. {effects.begun_again} ran twice: "
        f"{effects.begun_again - effects.ended_again} had been cut short,\nand {effects.ended_again} had ended just "
        "before the kill without being saved. Execution is at least once."
    )
    if faults:
        demo.screen.say("\n".join(["These threads did not end as they should:", *faults]))
        return 1
    waiting = sum(bool(state["questions"]) for state in states.values())
    demo.screen.say(
        f"{len(states) - waiting} of {len(states)} threads are finished, each with the state of an undisturbed run; "
        f"{waiting} wait for a person."
    )
    return 0
