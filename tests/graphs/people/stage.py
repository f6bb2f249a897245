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


def play(dsn: str, name: str, sweep_context: Scene) -> bool:
    """Begin the thread and do what the scene says; the last act may be the end of this process."""
    config = config_of(name, sweep_context.flow)
    with PostgresSaver.from_conn_string(dsn) as saver:
        begin(compiled(sweep_context.flow, saver), name, sweep_context.flow)
        for number, done in enumerate(sweep_context.acts, 1):
            actor = PostgresSaver(saver.conn)
            mortal(
                actor,
                sweep_context.dies if sweep_context.dies and number == len(sweep_context.acts) else NEVER,
                settled=True,
            )
            act(compiled(sweep_context.flow, actor), config, sweep_context.flow, done)
    return True


def main(dsn: str) -> None:
    for name, sweep_context in SCENES.items():
        ended = in_child(lambda: play(dsn, name, sweep_context))  # noqa: B023 - it is called at once
        if bool(ended) == bool(sweep_context.dies):
            raise SystemExit(f"{name!r} did not end as it should")


if __name__ == "__main__":
    main(sys.argv[1])
