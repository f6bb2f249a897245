"""What the demo knows about each thread, and whether all ended as they should. Does no I/O."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_FINISHED = "finished"
_WAITING = "waiting"


@dataclass(slots=True)
class Thread:
    """One thread: where it stood when the application was killed, and how it ended."""

    thread_id: str
    workflow: str
    stopped_at: str = ""
    head: str = ""
    verdict: str = ""
    outcome: str = ""
    attempts: int = 0
    running: bool = False
    seconds: float | None = None

    @property
    def resumable(self) -> bool:
        """Whether the daemon should resume it."""
        return self.verdict not in (_FINISHED, _WAITING)

    @property
    def done(self) -> bool:
        """Whether it has reached its final state."""
        return not self.resumable or self.outcome in (_FINISHED, _WAITING)

    @property
    def standing(self) -> str:
        """Its current state in one word."""
        return "resuming" if self.running else self.outcome or self.verdict

    @property
    def end(self) -> str:
        """How it ended, for the table."""
        untouched = {_FINISHED: "finished before the kill", _WAITING: "waiting, untouched"}
        return self.outcome or untouched.get(self.verdict, "not resumed")


class Tally:
    """All threads of the demo, as reported by the application, `scan` and the daemon's log."""

    def __init__(self, expected: Mapping[str, Mapping[str, Any]]) -> None:
        """`expected` holds the state each thread ends in without a crash."""
        self.expected = expected
        self.threads = {thread_id: Thread(thread_id, thread_id.rpartition("_")[0]) for thread_id in expected}

    def record_stops(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        """Record where each thread stood after the application was killed."""
        for thread_id, state in states.items():
            self.threads[thread_id].head = state["head"]
            self.threads[thread_id].stopped_at = ", ".join(
                node if times == 1 else f"{node} x {times}" for node, times in Counter(state["next"]).items()
            )

    def record_verdicts(self, scanned: Sequence[Mapping[str, Any]]) -> None:
        """Record the verdicts; a thread that `scan` does not list has nothing left to run."""
        verdicts = {found["thread_id"]: str(found["verdict"]) for found in scanned}
        for thread in self.threads.values():
            thread.verdict = verdicts.get(thread.thread_id, _FINISHED if not thread.stopped_at else "")

    def apply_log_line(self, line: Mapping[str, Any]) -> Thread | None:
        """Apply a line of the daemon's log; return the thread if its attempt has just ended."""
        thread = self.threads.get(str(line.get("thread_id")))
        if thread is None or not str(line["event"]).startswith("attempt."):
            return None
        thread.running = line["event"] == "attempt.started"
        if line["event"] != "attempt.finished":
            return None
        thread.attempts += 1
        thread.outcome = str(line["outcome"])
        thread.seconds = (thread.seconds or 0.0) + line["duration_ms"] / 1000
        return thread

    @property
    def done(self) -> bool:
        """Whether every thread has reached its final state."""
        return all(thread.done for thread in self.threads.values())

    def counts(self, workflow: str) -> Counter[str]:
        """Count one workflow's threads by standing."""
        return Counter(thread.standing for thread in self.threads.values() if thread.workflow == workflow)

    def find_faults(self, states: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Return one sentence for each thread that differs from an undisturbed run or was touched needlessly."""
        faults = ((thread, self._find_fault(thread, states.get(thread.thread_id))) for thread in self.threads.values())
        return [f"{thread.thread_id}: {fault}" for thread, fault in faults if fault]

    def _find_fault(self, thread: Thread, state: Mapping[str, Any] | None) -> str | None:
        expected = self.expected[thread.thread_id]
        if state is None:
            return "it has no checkpoint"
        if not thread.resumable and state["head"] != thread.head:
            return f"it was {thread.verdict} and has been touched"
        if state["next"] != expected["next"] or state["questions"] != expected["questions"]:
            return f"it stands at {', '.join(state['next']) or 'its end'}, {thread.end}"
        return None if state["values"] == expected["values"] else "its state is not that of an undisturbed run"
