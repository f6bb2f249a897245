"""Every private or undocumented name of LangGraph that we use: a new release says here what moved.

How the loops behave is in `test_loops.py`, what classes are stored as in `test_classes.py`; here are names and shapes.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, SimpleNamespace
from typing import Any, TypedDict

import ormsgpack
import pytest
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables import config as runnable_config
from langchain_core.runnables.base import RunnableBinding
from langgraph._internal import _config, _constants, _runnable
from langgraph.channels import LastValue
from langgraph.channels.base import BaseChannel
from langgraph.channels.delta import DeltaChannel
from langgraph.channels.named_barrier_value import NamedBarrierValue
from langgraph.checkpoint.base import CheckpointMetadata
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.postgres.base import BasePostgresSaver
from langgraph.checkpoint.serde import event_hooks
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.constants import TAG_HIDDEN
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import tool_node
from langgraph.pregel import Pregel
from langgraph.pregel._loop import AsyncPregelLoop, PregelLoop, SyncPregelLoop
from langgraph.pregel._runner import _acall, _call
from langgraph.types import PregelExecutableTask, RetryPolicy, interrupt

from resumed.judge import verdict
from resumed.judge.pending_writes import CONTROL
from resumed.runtime import langgraph_internals as internals
from resumed.runtime.fenced_saver import FencedSaver
from resumed.store.sql_files import load_sql

ANSWER = "an answer"


class State(TypedDict):
    seen: str


@dataclass
class Order:
    number: int


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def compiled() -> Any:
    graph = StateGraph(State)
    graph.add_node("node", lambda _: {"seen": "node"})
    graph.add_node("other", lambda _: {"seen": "other"})
    graph.add_edge(START, "node")
    graph.add_edge(START, "other")
    graph.add_node("after", lambda _: {"seen": "after"})
    graph.add_edge(["node", "other"], "after")
    return graph.compile()


def nested_code(function: Callable[..., Any], name: str) -> CodeType:
    """Return the code of a function that another one defines."""
    constants = inspect.unwrap(function).__code__.co_consts
    return next(code for code in constants if isinstance(code, CodeType) and code.co_name == name)


# The saver


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_cursor", ["self", "pipeline"]),
        ("_load_checkpoint_tuple", ["self", "value"]),
        ("_load_blobs", ["self", "blob_values"]),
        ("_load_writes", ["self", "writes"]),
        ("aget_tuple", ["self", "config"]),
        ("get_tuple", ["self", "config"]),
        ("aput", ["self", "config", "checkpoint", "metadata", "new_versions"]),
        ("aput_writes", ["self", "config", "writes", "task_id", "task_path"]),
        ("aget_delta_channel_history", ["self", "config", "channels"]),
        ("with_allowlist", ["self", "extra_allowlist"]),
    ],
)
def test_the_saver_has_each_method_that_ours_override_or_call(name: str, expected: list[str]) -> None:
    assert parameters(getattr(AsyncPostgresSaver, name)) == expected


def test_both_savers_open_their_cursors_the_same_way() -> None:
    assert parameters(PostgresSaver._cursor) == parameters(AsyncPostgresSaver._cursor)  # noqa: SLF001 - is named so
    session: Any = SimpleNamespace(_cursor=lambda: "a cursor")
    assert (internals.cursor_of(session), internals.async_cursor_of(session)) == ("a cursor", "a cursor")


def test_only_loading_a_checkpoint_is_asynchronous_among_the_savers_private_steps() -> None:
    steps = ("_load_checkpoint_tuple", "_load_blobs", "_load_writes")
    kinds = [inspect.iscoroutinefunction(getattr(AsyncPostgresSaver, name)) for name in steps]
    assert kinds == [True, False, False]


def test_the_saver_takes_the_statement_that_ours_replaces_from_itself() -> None:
    assert "self.UPSERT_CHECKPOINTS_SQL" in inspect.getsource(AsyncPostgresSaver.aput)
    original, ours = BasePostgresSaver.UPSERT_CHECKPOINTS_SQL, load_sql("saver")["upsert_checkpoint"].decode()
    columns = "(thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)"
    for statement in (original, ours):
        assert f"insert into checkpoints {columns}" in statement.lower()
        assert statement.count("%s") == 6


def test_the_savers_constructor_lock_and_migrations_are_where_we_use_them() -> None:
    assert parameters(AsyncPostgresSaver.__init__) == ["self", "conn", "pipe", "serde"]
    assert {"lock"} <= set(AsyncPostgresSaver.__annotations__)
    assert BasePostgresSaver.MIGRATIONS


async def test_our_saver_overrides_each_private_step_once() -> None:
    session: Any = SimpleNamespace()
    saver = internals.HookedPostgresSaver(session, checkpoint_upsert="insert")
    assert saver.UPSERT_CHECKPOINTS_SQL == "insert"
    assert saver.conn is session
    hooks = {"_cursor", "_load_checkpoint_tuple", "_load_blobs", "_load_writes"}
    assert hooks <= set(vars(internals.HookedPostgresSaver))
    assert not hooks & set(vars(FencedSaver))


async def test_the_savers_private_steps_call_the_public_ones() -> None:
    class Noting(internals.HookedPostgresSaver):
        def load_state(self, blobs: Any) -> dict[str, Any]:
            return {"seen": blobs}

        def load_writes(self, writes: Any) -> list[tuple[str, str, Any]]:
            return [("task", "seen", writes)]

    named = {"thread_id": "1", "checkpoint_ns": "", "checkpoint_id": "2", "parent_checkpoint_id": None}
    values = {"checkpoint": {"v": 4}, "metadata": {}, "channel_values": "blobs", "pending_writes": "writes"}
    session: Any = SimpleNamespace()
    loaded = await Noting(session)._load_checkpoint_tuple({**named, **values})  # noqa: SLF001 - as LangGraph calls it
    assert loaded.checkpoint["channel_values"] == {"seen": "blobs"}
    assert loaded.pending_writes == [("task", "seen", "writes")]


# Values


def test_values_name_their_class_first_under_each_code_that_we_look_into() -> None:
    assert len(internals.CLASS_CODES) == 6
    found: list[tuple[int, Any]] = []

    def note(code: int, data: bytes) -> None:
        found.append((code, ormsgpack.unpackb(data, ext_hook=note, option=ormsgpack.OPT_NON_STR_KEYS)))

    kind, data = JsonPlusSerializer().dumps_typed(Order(1))
    ormsgpack.unpackb(data, ext_hook=note, option=ormsgpack.OPT_NON_STR_KEYS)
    assert kind == "msgpack"
    ((code, parts),) = found
    assert code in internals.CLASS_CODES
    assert parts[:2] == [Order.__module__, "Order"]


def test_the_serializer_reports_classes_to_listeners() -> None:
    assert {"kind", "module", "name"} <= set(event_hooks.SerdeEvent.__annotations__)
    heard: list[Any] = []
    unregister = internals.register_serde_event_listener(heard.append)
    try:
        event_hooks.emit_serde_event({"kind": "x", "module": "m", "name": "n"})
    finally:
        unregister()
    assert [event for event in heard if event["kind"] == "x"] == [{"kind": "x", "module": "m", "name": "n"}]


def test_a_graph_has_an_allowlist_where_it_was_compiled_with_one() -> None:
    graph = compiled()
    assert hasattr(graph, "_serde_allowlist")
    graph._serde_allowlist = {("m", "n")}  # noqa: SLF001 - the name that is to be found
    assert internals.serde_allowlist_of(graph) == {("m", "n")}
    assert internals.serde_allowlist_of(object()) is None


# Names in rows and configs


def test_the_names_of_channels_and_tasks_in_rows_are_langgraphs() -> None:
    assert (verdict.NULL_TASK, verdict.INTERRUPT, verdict.RESUME) == (
        _constants.NULL_TASK_ID, _constants.INTERRUPT, _constants.RESUME,
    )  # fmt: skip
    assert (verdict.ERROR, verdict.ERROR_SOURCE) == (_constants.ERROR, _constants.ERROR_SOURCE_NODE)
    assert (verdict.START, verdict.SENDS) == (START, _constants.TASKS)
    assert {_constants.ERROR, _constants.ERROR_SOURCE_NODE, _constants.INTERRUPT, _constants.RESUME} <= CONTROL
    assert (internals.INPUT_TASK_NAME, TAG_HIDDEN) == (_constants.INPUT, "langsmith:hidden")


def test_edges_and_joins_have_channels_of_the_names_that_rows_are_read_by() -> None:
    channels = compiled().channels
    assert f"{verdict.BRANCH_PREFIX}node" in channels
    joins = {name: channel for name, channel in channels.items() if name.startswith(verdict.JOIN_PREFIX)}
    assert [join.names for join in joins.values() if isinstance(join, NamedBarrierValue)] == [{"node", "other"}]


def test_the_keys_of_a_config_are_langgraphs() -> None:
    ours = (
        internals.CONFIG_CALL,
        internals.CONFIG_CHECKPOINT_MAP,
        internals.CONFIG_CHECKPOINT_NS,
        internals.CONFIG_RESUMING,
        internals.CONFIG_TASK_ID,
    )
    assert ours == (
        _constants.CONFIG_KEY_CALL,
        _constants.CONFIG_KEY_CHECKPOINT_MAP,
        _constants.CONFIG_KEY_CHECKPOINT_NS,
        _constants.CONFIG_KEY_RESUMING,
        _constants.CONFIG_KEY_TASK_ID,
    )


def test_no_field_of_the_metadata_is_taken_for_a_scalar_of_the_call() -> None:
    assert set(CheckpointMetadata.__annotations__) <= internals.METADATA_KEYS


# Graphs and loops


@pytest.mark.parametrize(
    "name",
    [
        "nodes",
        "channels",
        "trigger_to_nodes",
        "interrupt_before_nodes",
        "interrupt_after_nodes",
        "checkpointer",
        "config",
    ],
)
def test_a_compiled_graph_has_each_attribute_that_is_read(name: str) -> None:
    assert hasattr(compiled(), name)


def test_a_node_has_its_triggers_its_tags_and_the_graph_that_it_is() -> None:
    node = compiled().nodes["node"]
    assert isinstance(node, internals.PregelNode)
    assert node.triggers == [f"{verdict.BRANCH_PREFIX}node"]
    assert hasattr(node, "tags")
    assert hasattr(node, "bound")
    assert parameters(Pregel.get_subgraphs) == ["self", "namespace", "recurse"]


@pytest.mark.parametrize(
    "name",
    [
        *("config", "input", "nodes", "specs", "step", "checkpointer", "tasks", "status"),
        *("trigger_to_nodes", "interrupt_before", "interrupt_after"),
    ],
)
def test_a_loop_has_each_attribute_that_is_read(name: str) -> None:
    declared = {*PregelLoop.__annotations__, *inspect.getattr_static(PregelLoop, "__init__").__code__.co_names}
    assert name in declared


@pytest.mark.parametrize("loop", [SyncPregelLoop, AsyncPregelLoop])
def test_a_loop_calls_what_we_hang_on_its_stack_and_waits_for_its_last_save(loop: Any) -> None:
    assert issubclass(loop, PregelLoop)
    assert "stack" in loop.__init__.__code__.co_names
    assert "_put_checkpoint_fut" in inspect.getsource(PregelLoop)
    assert "interrupt_before" in inspect.getsource(PregelLoop.tick)
    assert "interrupt_after" in inspect.getsource(PregelLoop.after_tick)


def test_loops_load_their_checkpoint_as_they_are_entered() -> None:
    assert SyncPregelLoop.__enter__.__code__.co_varnames[0] == "self"
    assert AsyncPregelLoop.__aenter__.__code__.co_varnames[0] == "self"
    assert ".get_tuple(" in inspect.getsource(SyncPregelLoop.__enter__)
    assert ".aget_tuple(" in inspect.getsource(AsyncPregelLoop.__aenter__)


def test_a_channel_says_whether_its_saved_value_can_start_a_node() -> None:
    channel = LastValue(str, "seen")
    channel.key = "seen"
    assert internals.is_available(channel, {"seen": "x"}, "seen")
    assert not internals.is_available(channel, {}, "seen")
    assert not internals.is_available(None, {"seen": "x"}, "seen")
    assert issubclass(DeltaChannel, BaseChannel)


def test_the_default_recursion_limit_is_known_by_its_type() -> None:
    limit = internals.recursion_default(7)
    assert limit == 7
    assert type(limit) is type(_config.DEFAULT_RECURSION_LIMIT)
    assert type(limit) is not int


def addressed(graph: Any, config: Any) -> tuple[bool, Any]:
    call = internals.addressed_call(graph, config)
    return call.nested, call.thread


def test_a_config_is_put_together_of_graph_call_and_calling_node() -> None:
    graph = compiled().with_config(configurable={"thread_id": "bound"})
    assert _constants.CONFIG_KEY_TASK_ID == "__pregel_task_id"
    assert addressed(graph, None) == (False, "bound")
    assert addressed(graph, {"configurable": {"thread_id": "called"}}) == (False, "called")
    with runnable_config.set_config_context({"configurable": {"__pregel_task_id": "task"}}) as context:
        assert context.run(addressed, compiled(), None) == (True, None)
        named = {"configurable": {"thread_id": "other"}}
        assert context.run(addressed, compiled(), named) == (False, "other")


def test_a_question_has_an_id_that_is_known_by_its_form() -> None:
    assert internals.is_xxh3_128_hexdigest("0" * 32)
    assert not internals.is_xxh3_128_hexdigest("yes")


def test_the_retry_policy_says_which_errors_pass() -> None:
    retries: Any = RetryPolicy().retry_on
    assert (retries(ConnectionError()), retries(ValueError())) == (True, False)


# Frames of the call stack


@pytest.mark.parametrize("module", internals.NODE_CALLING_MODULES)
def test_what_stands_between_a_node_and_its_refusal_is_still_a_module(module: str) -> None:
    assert importlib.import_module(module).__name__ == module


def test_the_modules_of_bindings_tools_and_nodes_are_named_as_frames_name_them() -> None:
    assert (RunnableBinding.__module__, RunnableBinding.__name__) == (internals.BINDING_MODULE, internals.BINDING_CLASS)
    assert _runnable.__name__ == internals.RUNNABLE_MODULE
    assert importlib.import_module("langchain_core.tools.base").__name__.startswith(internals.TOOL_MODULES)
    assert hasattr(importlib.import_module(internals.MIDDLEWARE_MODULE), "AgentMiddleware")


@pytest.mark.parametrize("call", [Pregel.stream, Pregel.astream])
def test_a_run_keeps_its_loop_in_a_variable(call: Any) -> None:
    code = call.__code__
    assert "loop" in {*code.co_varnames, *code.co_cellvars}


@pytest.mark.parametrize("call", [tool_node.ToolNode._func, tool_node.ToolNode._afunc])  # noqa: SLF001 - are named so
def test_a_tool_node_keeps_its_calls_in_a_variable(call: Any) -> None:
    assert "tool_calls" in call.__code__.co_varnames


@pytest.mark.parametrize("call", [_runnable.RunnableSeq.invoke, _runnable.RunnableSeq.ainvoke])
def test_a_node_counts_its_function_its_writers_and_its_routers(call: Any) -> None:
    assert {"self", "i"} <= set(call.__code__.co_varnames)


def test_a_node_without_a_synchronous_function_is_refused_with_a_type_error() -> None:
    async def only(_: Any) -> None:
        """Exist, as the only function of the node."""

    with pytest.raises(TypeError) as refused:
        _runnable.RunnableCallable(None, only).invoke({})
    assert internals.lacks_function(refused.traceback[-1].frame.raw)


def test_a_question_keeps_its_config_and_its_value_in_variables() -> None:
    assert {"value", "conf"} <= set(interrupt.__code__.co_varnames)


@pytest.mark.parametrize("call", [_call, _acall])
def test_what_a_task_calls_tasks_with_knows_the_task_first(call: Any) -> None:
    assert parameters(call)[0] == "task"
    assert "proc" in PregelExecutableTask.__dataclass_fields__


def test_the_node_of_a_task_is_the_first_step_of_what_runs_it() -> None:
    seen: list[Any] = []

    def node(_: State, config: RunnableConfig) -> State:
        seen.append(internals.node_of_task(config["configurable"]))
        return {"seen": ""}

    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.compile().invoke({"seen": ""})
    (found,) = seen
    assert found.func is node
    assert internals.node_of_task({}) is None


def test_a_function_runs_in_a_thread_by_a_wrapper_that_knows_it() -> None:
    wrapper = nested_code(runnable_config.run_in_executor, "wrapper")
    assert "func" in wrapper.co_freevars


def test_a_call_of_interrupt_is_known_by_its_frame() -> None:
    calls: list[Any] = []

    class Answers(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            frame: Any = inspect.currentframe()
            call = frame.f_back
            calls.append((internals.is_interrupt_call(call), internals.question_of_interrupt(call)))
            calls.append(internals.config_of_interrupt(call)[internals.CONFIG_CHECKPOINT_NS])
            return super().__getitem__(index)

    def node(_: State, config: RunnableConfig) -> State:
        scratchpad = config["configurable"][_constants.CONFIG_KEY_SCRATCHPAD]
        object.__setattr__(scratchpad, "resume", Answers([ANSWER]))
        return {"seen": interrupt("a question")}

    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    assert graph.compile().invoke({"seen": ""}) == {"seen": ANSWER}
    assert calls[0] == (True, "a question")
    assert calls[1].startswith("node:")
