"""Nothing is reported as success that did nothing, or less than an undisturbed run would have done."""

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver

from support.bench import Bench, everything

ATTEMPTS = "select thread_id, outcome, charged, advanced, error_type from resumed.attempts order by started_at"
CASES = "select thread_id, verdict, state, reason, quarantine_reason from resumed.cases"
ROWS = "select thread_id, checkpoint_ns, checkpoint_id from checkpoints order by 1, 2, 3"
WRITES = "select thread_id, checkpoint_id, task_id, idx, blob from checkpoint_writes order by 1, 2, 3, 4"

# What the reason must name.
REFUSED = {
    "renamed": ": b",
    "one_of_two": ": right",
    "sends": ": worker",
    "join": ": join:left+right:last",
    "deferred_join": ": join:left+right:last",
    "inside": ": y",
    "gone": "broken.values.Gone",
    "gone_model": "broken.values.GoneModel",
    "gone_nested": "broken.values.Gone",
    "gone_beside": "broken.values.Gone",
    "gone_inside": "broken.values.Gone",
    "gone_listed": "broken.values.Gone",
    "gone_encrypted": "broken.values.Gone",
    "gone_wrapped": "broken.values.Gone",
    "refitted": "broken.values.Refitted",
    "unlisted": "broken.values.Kept",
    "pickled": "does not load",
    "unpickled": "does not load",
    "hanging": "does not load: TimeoutError",
    "exiting": "does not load: ValueError",
    "stateful": "the stateful subgraph inner",
    "downgraded": "accepts version '2'",
}
IMPATIENT = {"RESUMED_TEST_TIMINGS": "state_load=3s"}
HEALTHY = ["kept", "kept_listed", "kept_encrypted", "kept_wrapped", "stateful_first"]


def died(bench: Bench, *names: str, faults: tuple[str, ...] = ()) -> None:
    """Have the application start these flows; each dies or fails in its own process."""
    log = bench.folder / "application.log"
    done = bench.module("broken.app", bench.dsn, *names, log=log, **faulty(bench, *faults))
    assert done.wait(60) == 0, log.read_text()


def faulty(bench: Bench, *faults: str) -> dict[str, str]:
    """Have these faults, and no other, from now on."""
    place = bench.folder / "faults"
    place.mkdir(exist_ok=True)
    for left in place.iterdir():
        left.unlink()
    for fault in faults:
        (place / fault).touch()
    return {"BROKEN_FAULTS": str(place)}


def deployed(bench: Bench, *names: str, faults: tuple[str, ...] = ()) -> dict[str, Any]:
    """Give the settings of whoever runs the code of the next deploy."""
    entries = [f"{name}=broken.graphs:{name}" for name in names]
    return {"workflows": entries, "BROKEN_DEPLOYED": "1", **faulty(bench, *faults)}


def outcomes(bench: Bench) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in bench.rows(ATTEMPTS):
        found.setdefault(row["thread_id"].removesuffix("_0"), []).append(row["outcome"])
    return found


def cases(bench: Bench) -> dict[str, dict[str, Any]]:
    return {row.pop("thread_id").removesuffix("_0"): row for row in bench.rows(CASES)}


def state(bench: Bench, name: str) -> Any:
    everything()
    from broken.graphs import FLOWS  # noqa: PLC0415 - found only once the graphs are on the path

    made, serde = FLOWS[name]
    with PostgresSaver.from_conn_string(bench.dsn) as saver:
        saver.serde = serde or saver.serde
        return made.compile(checkpointer=saver).get_state({"configurable": {"thread_id": f"{name}_0"}}).values


def test_what_this_code_cannot_do_or_read_is_left_alone_and_never_reported_as_done(bench: Bench) -> None:
    names = [*REFUSED, *HEALTHY]
    died(bench, *names)
    settings = {**deployed(bench, *names), **IMPATIENT}
    before = bench.rows(ROWS), bench.rows(WRITES)
    scanned = {one["thread_id"].removesuffix("_0"): one for one in bench.ask("scan", **settings)["threads"]}
    assert {name: one["verdict"] for name, one in scanned.items()} == {
        **dict.fromkeys(REFUSED, "incompatible"), **dict.fromkeys(HEALTHY, "stopped"),
    }  # fmt: skip
    assert {
        name: scanned[name]["reason"] for name, said in REFUSED.items() if said not in scanned[name]["reason"]
    } == {}
    assert (bench.rows(ROWS), bench.rows(WRITES)) == before
    for _ in range(2):
        bench.resumed("once", "--wait", **settings)
    found = cases(bench)
    assert {name: (found[name]["verdict"], found[name]["state"]) for name in REFUSED} == dict.fromkeys(
        REFUSED, ("incompatible", "quarantined")
    )
    assert {name: found[name]["quarantine_reason"] for name, said in REFUSED.items()
            if said not in found[name]["quarantine_reason"]} == {}  # fmt: skip
    assert outcomes(bench) == {name: ["finished"] for name in HEALTHY}


def undisturbed(name: str) -> Any:
    everything()
    from broken.graphs import FLOWS  # noqa: PLC0415 - found only once the graphs are on the path

    graph, config = FLOWS[name][0].compile(checkpointer=InMemorySaver()), {"configurable": {"thread_id": "undisturbed"}}
    graph.invoke({"seen": []}, config)
    return graph.get_state(config).values


def test_a_route_that_failed_is_taken_and_what_cannot_pass_is_not_fed_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    routed, hopeless = ["router", "node_then_router", "delta"], ["conflict", "endless"]
    names = [*routed, *hopeless, "blobless"]
    died(bench, "router", faults=("router",))
    died(bench, "node_then_router", "delta", faults=("node",))
    died(bench, *hopeless, "blobless")
    limit = {"RESUMED_MAX_ATTEMPTS": "2"}
    # A clean-up of the application's own has taken what the join waits with.
    bench.execute("delete from checkpoint_blobs where thread_id = 'blobless_0' and channel like 'join:%'")
    assert bench.resumed("once", **limit, **deployed(bench, *names, faults=("router",))).returncode == 1
    assert outcomes(bench) == {**{name: ["failed"] for name in [*routed, *hopeless]}, "blobless": ["no_progress"]}
    found = cases(bench)
    assert {name: found[name]["state"] for name in hopeless} == dict.fromkeys(hopeless, "quarantined")
    assert "GraphRecursionError" in found["endless"]["quarantine_reason"]
    assert "InvalidUpdateError" in found["conflict"]["quarantine_reason"]
    for _ in range(2):
        bench.resumed("once", "--wait", **limit, **deployed(bench, *names))
    assert outcomes(bench) == {
        **{name: ["failed", "finished"] for name in routed},
        **{name: ["failed"] for name in hopeless},
        "blobless": ["no_progress", "no_progress"],
    }
    made = bench.rows(ATTEMPTS)
    assert {one["advanced"] for one in made if one["outcome"] == "no_progress"} == {False}
    assert {one["outcome"] for one in made if one["charged"]} == {"failed", "no_progress"}
    assert cases(bench)["blobless"]["state"] == "quarantined"
    monkeypatch.setenv("BROKEN_FAULTS", str(bench.folder / "nowhere"))
    assert {name: state(bench, name) for name in routed} == {name: undisturbed(name) for name in routed}
    assert state(bench, "delta")["told"] == ["a", "fragile", "taken"]


@pytest.mark.thorough
def test_what_starts_a_node_of_another_version_only_is_not_taken_for_finished(bench: Bench) -> None:
    died(bench, "pregel")
    before = deployed(bench, "pregel")
    del before["BROKEN_DEPLOYED"]
    assert bench.resumed("once", RESUMED_DRY_RUN="true", **before).returncode == 0
    assert cases(bench)["pregel"]["verdict"] == "stopped"
    bench.resumed("once", "--wait", **deployed(bench, "pregel"))
    assert outcomes(bench) == {}
    assert cases(bench)["pregel"]["verdict"] == "incompatible"


def test_strict_deserialisation_refuses_what_it_would_strip_of_its_class_and_finishes_the_rest(bench: Bench) -> None:
    names = ["kept", "kept_typed", "kept_listed", "stateful_first"]
    died(bench, *names)
    done = bench.resumed("once", "--wait", RESUMED_STRICT_MSGPACK="true", **deployed(bench, *names))
    assert done.returncode == 0, done.stderr
    assert outcomes(bench) == {name: ["finished"] for name in names[1:]}
    assert cases(bench)["kept"]["verdict"] == "incompatible"
    assert "broken.values.Kept" in cases(bench)["kept"]["reason"]


def test_an_edited_thread_is_finished_where_nothing_is_left_to_run_and_else_a_persons(bench: Bench) -> None:
    held, closed = ["edited", "copied"], ["edited_finished", "copied_finished"]
    run = ["edited_then_run", "edited_then_begun", "imported"]
    died(bench, *held, *closed, *run)
    settings = deployed(bench, *held, *closed, *run)
    scanned = {one["thread_id"].removesuffix("_0"): one for one in bench.ask("scan", **settings)["threads"]}
    assert {name: (one["verdict"], one["action"]) for name, one in scanned.items()} == {
        **dict.fromkeys(held, ("edited", "hold")),
        **dict.fromkeys(run, ("stopped", "resume")),
    }
    assert bench.resumed("once", "--wait", **settings).returncode == 0
    assert outcomes(bench) == {name: ["finished"] for name in run}
    found = cases(bench)
    assert {name: (found[name]["verdict"], found[name]["state"]) for name in held} == dict.fromkeys(
        held, ("edited", "held")
    )
    assert {found[name]["state"] for name in closed if name in found} <= {"closed"}
    before = bench.rows(ROWS), bench.rows(WRITES)
    assert bench.resumed("resume", "edited_0", "--force", **settings).returncode == 1
    assert bench.resumed("once", "--wait", **settings).returncode == 0
    assert (bench.rows(ROWS), bench.rows(WRITES)) == before
    assert state(bench, "edited_then_run")["seen"].count("hold") == 1
