"""Replicas of the daemon, and whoever kills them: one of their processes at random, with SIGKILL."""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
import psycopg

from support.bench import Bench
from support.daemon import Daemon

SESSIONS = "select pid from pg_stat_activity where application_name like 'resumed%' and pid <> pg_backend_pid()"


@dataclass
class Fleet:
    """Some replicas with the same settings; one that ends is started again, as an orchestrator would."""

    bench: Bench
    dice: random.Random
    workflows: list[str] | None = None
    settings: dict[str, str] = field(default_factory=dict)
    replicas: list[Daemon] = field(default_factory=list)
    ended: list[Daemon] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def start(self, count: int) -> "Fleet":
        for _ in range(count):
            self._add()
        return self.until_ready()

    def until_ready(self) -> "Fleet":
        for replica in self.replicas:
            replica.until_ready()
        return self

    def kill_one(self) -> None:
        """Kill a control process or one of its workers, each as likely as any other."""
        processes = [(one.process.pid, one) for one in self.replicas]
        processes += [(worker, one) for pid, one in processes for worker in children(pid)]
        self._kill(*self.dice.choice(processes))

    def kill_worker(self) -> None:
        """Kill a worker of any replica."""
        self._kill(*self.dice.choice([(pid, one) for one in self.replicas for pid in children(one.process.pid)]))

    def kill_control(self) -> None:
        """Kill the control process of any replica."""
        replica = self.dice.choice(self.replicas)
        self._kill(replica.process.pid, replica)

    def _kill(self, pid: int, replica: Daemon) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.done["control processes" if pid == replica.process.pid else "workers"] += 1
        if pid == replica.process.pid:
            self._replace(replica)

    def _replace(self, replica: Daemon) -> None:
        replica.process.wait()
        self.replicas.remove(replica)
        self.ended.append(replica)
        self._add()

    def cut_session(self) -> None:
        """Have the server end one of the replicas' sessions."""
        with contextlib.suppress(psycopg.OperationalError), self.bench.connected() as connection:
            pids = [row[0] for row in connection.execute(SESSIONS).fetchall()]
            if pids:
                connection.execute("select pg_terminate_backend(%s)", [self.dice.choice(pids)])
                self.done["sessions"] += 1

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What all of them, the ended ones too, said of an event."""
        return [line for one in (*self.ended, *self.replicas) for line in one.lines(event)]

    def memory_of(self, replica: Daemon) -> int:
        """A control process's resident memory in bytes."""
        return int(psutil.Process(replica.process.pid).memory_info().rss)

    def stop_one(self) -> None:
        """Drain one replica, as a deploy does, and start it again."""
        replica = self.dice.choice(self.replicas)
        replica.process.send_signal(signal.SIGTERM)
        self._replace(replica)

    def stop(self) -> int:
        """End all; says how many did not end well."""
        for replica in self.until_ready().replicas:
            replica.process.send_signal(signal.SIGTERM)
        return sum(replica.process.wait(60) != 0 for replica in self.replicas)

    def _add(self) -> None:
        self.replicas.append(self.bench.daemon(self.workflows, **self.settings))


def children(pid: int) -> list[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [one.pid for one in psutil.Process(pid).children()]
    return []


def every(seconds: float, lasting: float, deed: Callable[[], None]) -> None:
    """Do it again and again for so long."""
    end = time.monotonic() + lasting
    while (due := time.monotonic() + seconds) < end:
        deed()
        time.sleep(max(due - time.monotonic(), 0))
