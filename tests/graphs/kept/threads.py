"""Threads of every kind, made old by SQL, and what a reader sees of each: the state and the checkpoints it needs."""

from typing import Any

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver

from kept.graphs import KINDS, STRATEGIES, built

AGE = """
create or replace function public.older(id text, by interval) returns text language sql immutable as $$
    select substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-6' || substr(h, 13, 3) || substr(id, 19)
    from (
        select lpad(to_hex(('x' || '0' || substr(d, 1, 12) || substr(d, 14, 3))::bit(64)::bigint
            - (extract(epoch from by) * 10000000)::bigint), 15, '0')
        from (select replace(id, '-', '')) x (d)
    ) y (h)
$$;
create or replace function public.make_older(thread text, by interval) returns void language sql as $$
    update checkpoint_writes set checkpoint_id = older(checkpoint_id, by) where thread_id = thread;
    update checkpoints c set checkpoint_id = older(checkpoint_id, by),
        parent_checkpoint_id = older(parent_checkpoint_id, by),
        checkpoint = jsonb_set(checkpoint, '{id}', to_jsonb(older(checkpoint ->> 'id', by))),
        metadata = case when metadata ? 'parents' then jsonb_set(metadata, '{parents}', (
            select coalesce(jsonb_object_agg(p.key, older(p.value, by)), '{}')
            from jsonb_each_text(metadata -> 'parents') p
        )) else metadata end
    where thread_id = thread;
$$;
"""
# Kinds of which a policy lets go: all else stays as it is, whatever its age.
FINISHED = ("once", "chat", "nested", "stateful", "forked", "updated", "delta")
FOREIGN = ("locked", "unlocked", "vanishing")
ORPHANS = """
select b.thread_id, b.channel, b.version from checkpoint_blobs b where not exists (
    select from checkpoints c where c.thread_id = b.thread_id and c.checkpoint_ns = b.checkpoint_ns
    and c.checkpoint -> 'channel_versions' ->> b.channel = b.version
) and b.type <> 'empty'
"""
MISSING = """
select c.thread_id, c.checkpoint_ns, c.checkpoint_id, v.key from checkpoints c,
    jsonb_each_text(c.checkpoint -> 'channel_versions') v
where not exists (select from checkpoint_blobs b where b.thread_id = c.thread_id and b.checkpoint_ns = c.checkpoint_ns
    and b.channel = v.key and b.version = v.value)
and not c.checkpoint -> 'channel_values' ? v.key and v.key in ('turns', 'total', 'profile', 'note')
and strpos(c.thread_id, '_delta_') = 0
"""


def config(thread: str, **more: Any) -> Any:
    return {"configurable": {"thread_id": thread, **more}, "metadata": {"workflow": thread.rpartition("_")[0]}}


def compiled(kind: str, saver: Any) -> Any:
    return built(kind).compile(checkpointer=saver, interrupt_before=["note"] if kind == "breakpoint" else None)


def make(saver: PostgresSaver, thread: str) -> None:
    """Make a thread of the kind that its name says."""
    kind = thread.split("_")[1]
    graph = compiled(kind, saver)
    turns = {"once": 1, "waiting": 1, "failed": 1, "quarantined": 1, "breakpoint": 1, "chat": 8}.get(kind, 3)
    for turn in range(1, turns + 1):
        try:
            graph.invoke({"turn": turn}, config(thread))
        except RuntimeError:
            return
    past = [one.config["configurable"]["checkpoint_id"] for one in graph.get_state_history(config(thread))]
    if kind == "forked":  # an earlier turn begun again, to its end
        graph.invoke({"turn": 9}, config(thread, checkpoint_id=past[4]))
    if kind == "edited":  # an earlier turn edited, with work left
        graph.update_state(config(thread, checkpoint_id=past[-1]), {"turn": 7}, as_node="__start__")
    if kind == "updated":  # a message added after the end
        graph.update_state(config(thread), {"note": "by hand"}, as_node="note")


def names(count: int) -> list[str]:
    return [f"{strategy}_{kind}_{n}" for strategy in STRATEGIES for kind in KINDS for n in range(count)]


def make_all(dsn: str, count: int) -> list[str]:
    """Make `count` threads of each workflow, two days old."""
    made = names(count)
    with PostgresSaver.from_conn_string(dsn) as saver, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(AGE)
        for thread in made:
            make(saver, thread)
        with connection.transaction():
            for thread in made:
                connection.execute("select make_older(%s, '2 days')", [thread])
    return made


def seen(saver: PostgresSaver, thread: str) -> Any:
    """What a reader sees of a thread: its values, what comes next, and those of its stateful subgraph."""
    graph = compiled(thread.split("_")[1], saver)
    state = graph.get_state(config(thread), subgraphs=True)
    inner = saver.get_tuple(config(thread, checkpoint_ns="inner"))
    return state.values, state.next, state.config, inner and inner.checkpoint["channel_values"]
