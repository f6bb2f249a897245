"""Replicas of resumed on a Ray cluster: one actor for each, which Ray starts elsewhere when its node is lost.

    python replicas.py 4        # as often as you like: there are four then, wherever Ray has room for them

Each node has the application, with resumed and its graphs, and in the environment of `ray start` the settings, such as
RESUMED_DATABASE_URL_FILE: what is handed to an actor is kept by Ray, so no address is. Ray places and restarts; whose
turn a thread is, the replicas settle in Postgres as ever.
"""

import argparse
import os
import subprocess
import threading
import time

import ray

_SHORTEST, _LONGEST = 1.0, 60.0
# Ray kills an actor's children and its process group with SIGKILL; when Ray itself is killed, nobody kills them. So the
# child is a shell, in a group of its own, that dies with the actor either way: the replica under it then gets SIGTERM,
# and drains.
_COMMAND = ("setpriv", "--pdeathsig", "KILL", "sh", "-c", "setpriv --pdeathsig TERM resumed run; exit $?")


@ray.remote(num_cpus=1, max_restarts=-1, scheduling_strategy="SPREAD")
class Replica:
    """Keeps one `resumed run` going, for as long as the actor lives."""

    def __init__(self) -> None:
        """Start it, and whenever it has ended, start it again."""
        # A child dies with the thread that started it, so this one never ends.
        threading.Thread(target=self._supervise, daemon=True).start()

    def _supervise(self) -> None:
        pause = _SHORTEST
        while True:
            began = time.monotonic()
            # Several may be on one node, so each takes a free port unless one is named.
            environment = {"RESUMED_HTTP_PORT": "0", **os.environ}
            subprocess.run(_COMMAND, env=environment, start_new_session=True, check=False)  # noqa: S603 - a constant
            pause = _SHORTEST if time.monotonic() - began > _LONGEST else min(pause * 2, _LONGEST)
            time.sleep(pause)


def main() -> None:
    """Have so many replicas, no more and no fewer."""
    parser = argparse.ArgumentParser(description="have so many replicas of resumed on this Ray cluster")
    parser.add_argument("count", type=int)
    names = [f"replica-{number}" for number in range(parser.parse_args().count)]
    ray.init(address="auto", namespace="resumed")
    for surplus in set(ray.util.list_named_actors()) - set(names):
        ray.kill(ray.get_actor(surplus))
    for name in names:
        actor = Replica.options(name=name, lifetime="detached", get_if_exists=True).remote()
        ray.get(actor.__ray_ready__.remote())


if __name__ == "__main__":
    main()
