"""Plays the scenes of `people.breakpoints`: `python -m people.stage DSN`. A thread's id is its scene's name."""

import sys
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver

from people.breakpoints import DECLARED, SCENES, Scene, act, compiled
from people.driver import NEVER, in_child, mortal


def config_of(name: str, flow: str) -> Any:
    return {"configurable": {"thread_id": name}, "metadata": {"workflow": flow}}


def begin(graph: Any, name: str, flow: str) -> None:
    graph.invoke({"said": []}, config_of(name, flow), durability="sync", **DECLARED.get(flow, {}))


def play(dsn: str, name: str, scene: Scene) -> bool:
    """Begin the thread and do what the scene says; the last act may be the end of this process."""
    config = config_of(name, scene.flow)
    with PostgresSaver.from_conn_string(dsn) as saver:
        begin(compiled(scene.flow, saver), name, scene.flow)
        for number, done in enumerate(scene.acts, 1):
            actor = PostgresSaver(saver.conn)
            mortal(
                actor,
                scene.dies if scene.dies and number == len(scene.acts) else NEVER,
                settled=True,
            )
            act(compiled(scene.flow, actor), config, scene.flow, done)
    return True


def main(dsn: str) -> None:
    for name, scene in SCENES.items():
        ended = in_child(lambda: play(dsn, name, scene))  # noqa: B023 - it is called at once
        if bool(ended) == bool(scene.dies):
            raise SystemExit(f"{name!r} did not end as it should")


if __name__ == "__main__":
    main(sys.argv[1])
