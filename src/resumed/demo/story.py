"""Owns the order of the demo: a server, an application, its death, the daemon, the count. Each part is another's."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from resumed.demo import advice, example
from resumed.demo.example import THREADS, Example
from resumed.demo.household import DemoError, Household, Job, heeding
from resumed.demo.postgres import PrivateServer
from resumed.demo.replica import MIN_AGE_SECONDS, Command, Replica
from resumed.demo.screen import Screen
from resumed.demo.tally import Tally
from resumed.judge.verdict import INTERRUPT
from resumed.store import checkpoints, schema
from resumed.store.connection import Target, open_session

_PAUSE = 0.1
_PATIENCE = 60.0
_TELLING = frozenset({"worker.died", "worker.killed", "thread.failed", "database.failed", "case.quarantined"})


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that is on the stage."""

    screen: Screen
    household: Household
    example: Example
    command: Command
    tally: Tally


def tell(*, keep: bool) -> int:
    """Tell the whole story; gives the exit code. Raises ResumedError where it cannot be told."""
    example.require()
    began = time.monotonic()
    with heeding() as apply_stop_requests, Screen() as screen, Household() as household:
        undisturbed = example.begin_undisturbed(household)
        screen.step("A private Postgres, and LangGraph's tables in it")
        with PrivateServer(household.folder / "postgres") as server:
            household.watch(server.pid, signal.SIGINT)
            stage = _set_up(screen, household, server.dsn(), undisturbed)
            killed_at = _kill_the_application(stage)
            _judge(stage, killed_at)
            replica = _resume(stage, killed_at)
            code = _count(stage)
            apply_stop_requests()
            screen.say(f"The whole story took {time.monotonic() - began:.1f} s.")
            if keep:
                advice.wait(screen, stage.command, replica)
            return code


def _set_up(screen: Screen, household: Household, dsn: str, undisturbed: Job) -> Stage:
    screen.say(f"{dsn}, its data in {household.folder}")
    application = Example(household, dsn)
    application.set_up()
    screen.step("resumed migrate")
    asyncio.run(schema.migrate(Target(dsn), tell=screen.say))
    tally = Tally(example.undisturbed(household, undisturbed))
    return Stage(screen, household, application, Command(household, application), tally)


def _kill_the_application(stage: Stage) -> float:
    """Run the application until every thread has begun and somebody has been asked, then kill it."""
    screen = stage.screen
    screen.step(f"An application begins {THREADS} threads of four workflows")
    running = stage.example.run()
    asyncio.run(_until_begun(stage, running))
    stage.household.end(running)
    killed_at = time.monotonic()
    done = stage.example.effects()
    screen.say(f"kill -9 {running.process.pid}: dead, after {done.ended} nodes, with {done.begun - done.ended} running")
    return killed_at


async def _until_begun(stage: Stage, running: Job) -> None:
    deadline = time.monotonic() + _PATIENCE
    async with open_session(Target(stage.example.dsn), "resumed demo") as session:
        while True:
            found = await checkpoints.snapshots(session, list(stage.tally.threads))
            asked = any(row.channel == INTERRUPT for one in found.values() for row in one.rows)
            if len(found) == THREADS and asked:
                return
            if running.ended or time.monotonic() > deadline:
                message = f"the application could not be killed in time: {running.last_words()}"
                raise DemoError(message)
            stage.screen.progress(f"{len(found)} threads begun, {stage.example.effects().ended} nodes have run")
            await asyncio.sleep(_PAUSE)


def _judge(stage: Stage, killed_at: float) -> None:
    stage.screen.step("resumed scan: what a sweep finds, and how it judges; nothing is changed")
    stage.tally.stopped(stage.example.states())
    # A thread that nobody holds a lock for is believed dead once it has been quiet for RESUMED_MIN_AGE.
    time.sleep(max(0.0, killed_at + MIN_AGE_SECONDS - time.monotonic()))
    found = stage.command.scan()
    stage.tally.judged(found)
    for (verdict, action), threads in sorted(_grouped(found).items()):
        stage.screen.say(f"{verdict:8} {len(threads):3}  -> {action:7} for example {_example(threads[0])}")
    done = sum(one.verdict == "finished" for one in stage.tally.threads.values())
    stage.screen.say(f"finished {done:3}  -> none    they ended before the kill, and are not touched")


def _grouped(found: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in found:
        groups.setdefault((one["verdict"], one["action"]), []).append(one)
    return groups


def _example(one: dict[str, Any]) -> str:
    return f"{one['thread_id']}: {one['reason']}"


def _resume(stage: Stage, killed_at: float) -> Replica:
    stage.screen.step("resumed run: the daemon resumes what may be resumed")
    replica = stage.command.run()
    deadline = time.monotonic() + _PATIENCE
    _follow(stage, replica, lambda: stage.tally.done or time.monotonic() > deadline)
    outcomes = Counter(one.outcome for one in stage.tally.threads.values() if one.attempts)
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    stage.screen.say(f"{told or 'nothing'}, {time.monotonic() - killed_at:.1f} s after the kill")
    return replica


def _follow(stage: Stage, replica: Replica, enough: Callable[[], bool]) -> None:
    """Show what the daemon's log says until it is enough. Raises DemoError where the daemon ends."""
    while not enough():
        for line in replica.news():
            _tell(stage, line)
        stage.screen.board(stage.tally)
        if replica.job.ended:
            message = f"the daemon ended by itself: {replica.job.last_words()}"
            raise DemoError(message)
        time.sleep(_PAUSE)


def _tell(stage: Stage, line: dict[str, Any]) -> None:
    ended = stage.tally.hear(line)
    if ended is not None:
        stage.screen.pass_by(f"{ended.thread_id}: {ended.verdict} at {ended.stopped_at} -> {ended.outcome}")
    match line["event"]:
        case "http.opened":
            stage.screen.say(f"metrics and health on http://127.0.0.1:{line['port']}")
        case "sweep.finished":
            stage.screen.pass_by(f"sweep: {line['rows']} checkpoints looked at, {line['cases']} cases written")
        case event if event in _TELLING:
            stage.screen.pass_by(f"{event}: {line.get('thread_id') or line.get('worker') or line.get('error')}")


def _count(stage: Stage) -> int:
    """Compare with an undisturbed run, count the side effects, and say whether all is as it must be."""
    stage.screen.step("What became of every thread")
    states = stage.example.states()
    wrong = stage.tally.wrong(states)
    stage.screen.table(list(stage.tally.threads.values()))
    done = stage.example.effects()
    stage.screen.say(
        f"Side effects: {done.nodes} nodes, begun {done.begun} times. {done.begun_again} ran twice: "
        f"{done.begun_again - done.ended_again} had been cut short,\nand {done.ended_again} had come to their end just "
        "before the kill, not saved yet. Execution is at least once."
    )
    if wrong:
        stage.screen.say("\n".join(["Not as it must be:", *wrong]))
        return 1
    waiting = sum(bool(state["questions"]) for state in states.values())
    stage.screen.say(
        f"{len(states) - waiting} of {len(states)} threads are finished, each with the state of an undisturbed run; "
        f"{waiting} wait for a person."
    )
    return 0
