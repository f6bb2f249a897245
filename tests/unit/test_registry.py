"""Entry points as they are installed: each is loaded apart, and a broken one takes nothing with it."""

import importlib
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph
from langgraph.pregel import Pregel
from langgraph.store.memory import InMemoryStore

from resumed.errors import RegistrationError
from resumed.workflows.discovery import GROUP
from resumed.workflows.loaded_workflow import LoadedWorkflow
from resumed.workflows.loader import Registry, Selection, load_registry, resolve
from resumed.workflows.workflow import Workflow

PATIENCE = timedelta(seconds=30)
GRAPH = """
from typing import TypedDict
from langgraph.graph import END, START, StateGraph


class Total(TypedDict):
    total: int


graph = StateGraph(Total)
graph.add_node("add", lambda state: {"total": state["total"] + 1})
graph.add_edge(START, "add")
graph.add_edge("add", END)
"""


class Total(TypedDict):
    total: int


def _graph() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Total)
    graph.add_node("add", lambda state: {"total": state["total"] + 1})
    graph.add_edge(START, "add")
    graph.add_edge("add", END)
    return graph


@dataclass
class Shelf:
    """A folder on the path, where distributions with entry points and modules are put as an installer would."""

    folder: Path
    modules: list[str] = field(default_factory=list)

    def module(self, source: str) -> str:
        """Put a module there; gives its name, which no other test has."""
        name = f"made_{uuid.uuid4().hex}"
        (self.folder / f"{name}.py").write_text(source)
        self.modules.append(name)
        importlib.invalidate_caches()
        return name

    def value(self, source: str, attribute: str = "graph") -> str:
        """Put a module there; gives what an entry point says to name its attribute."""
        return f"{self.module(source)}:{attribute}"

    def register(self, entries: Mapping[str, str], distribution: str = "shop", group: str = GROUP) -> None:
        lines = [f"{name} = {value}" for name, value in entries.items()]
        self.write(distribution, f"[{group}]\n" + "\n".join(lines) + "\n")

    def write(self, distribution: str, entry_points: str) -> None:
        info = self.folder / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        importlib.invalidate_caches()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    made = Shelf(tmp_path)
    yield made
    for name in made.modules:
        sys.modules.pop(name, None)


def _load(
    *names: str,
    excluded: Mapping[str, str] | None = None,
    deadline: timedelta = PATIENCE,
    on_loading: Callable[[str], None] = lambda _: None,
) -> Registry:
    return load_registry(Selection(names or None, excluded or {}, deadline, on_loading))


# What is loaded


def test_a_graph_that_is_not_compiled_is_loaded(shelf: Shelf) -> None:
    shelf.register({"orders": shelf.value(GRAPH)})
    registry = _load()
    assert registry.unavailable == {}
    loaded = registry.available["orders"]
    assert (loaded.name, loaded.policy.version) == ("orders", None)
    assert isinstance(loaded.graph, Pregel)
    assert loaded.graph.invoke({"total": 1}) == {"total": 2}


def test_a_compiled_graph_is_loaded_as_it_is(shelf: Shelf) -> None:
    module = shelf.module(GRAPH + "app = graph.compile()\n")
    shelf.register({"orders": f"{module}:app"})
    assert _load().available["orders"].graph is sys.modules[module].app


def test_what_entrypoint_returns_is_loaded(shelf: Shelf) -> None:
    source = "from langgraph.func import entrypoint\n\n@entrypoint()\ndef double(n: int) -> int:\n    return n * 2\n"
    shelf.register({"double": shelf.value(source, "double")})
    assert _load().available["double"].graph.invoke(4) == 8


@pytest.mark.parametrize("what", ["graph", "graph.compile()"])
def test_a_workflow_of_a_graph_is_loaded_with_its_policy(shelf: Shelf, what: str) -> None:
    source = f"from resumed import Workflow\n{GRAPH}\nwf = Workflow(graph={what}, version='2', accepts=['1'])\n"
    shelf.register({"orders": shelf.value(source, "wf")})
    loaded = _load().available["orders"]
    assert (loaded.policy.version, loaded.policy.accepts) == ("2", ("1",))
    assert loaded.graph.invoke({"total": 1}) == {"total": 2}


def test_an_attribute_of_an_attribute_can_be_registered(shelf: Shelf) -> None:
    source = GRAPH + "class Shop:\n    class Graphs:\n        orders = graph\n"
    shelf.register({"orders": f"{shelf.module(source)}:Shop.Graphs.orders"})
    assert list(_load().available) == ["orders"]


def test_entries_of_many_distributions_are_loaded_in_the_order_of_their_names(shelf: Shelf) -> None:
    module = shelf.module(GRAPH)
    shelf.register({"c": f"{module}:graph", "a": f"{module}:graph"}, "first")
    shelf.register({"b": f"{module}:graph"}, "second")
    asked: list[str] = []
    assert list(_load(on_loading=asked.append).available) == ["a", "b", "c"] == asked


def test_entries_of_another_group_are_none_of_ours(shelf: Shelf) -> None:
    shelf.register({"orders": "no_such_module:graph"}, group="resumed.workflows.more")
    assert _load() == Registry()


def test_without_any_entry_there_is_nothing_and_no_error(shelf: Shelf) -> None:
    assert _load() == Registry()


# What is not, and why


FROM_US = "from resumed import Workflow\n"
BROKEN: dict[str, tuple[str, str, str]] = {
    "missing_attribute": (GRAPH, "grpah", "AttributeError"),
    "missing_package": ("import no_such_package_anywhere", "graph", "ModuleNotFoundError"),
    "syntax": ("def (", "graph", "SyntaxError"),
    "raises": ("raise ValueError(1)", "graph", "ValueError"),
    "exits": ("import sys\nsys.exit(3)", "graph", "SystemExit"),
    "interrupts": ("raise KeyboardInterrupt", "graph", "KeyboardInterrupt"),
    "recurses": ("def f():\n    f()\nf()", "graph", "RecursionError"),
    "number": ("graph = 5", "graph", "int"),
    "nothing": ("graph = None", "graph", "NoneType"),
    "asks_for_more": ("def make(checkpointer, database): ...", "make", "asks for database"),
    "without_nodes": (f"{GRAPH}\nempty = StateGraph(Total)", "empty", "ValueError"),
    "compiles_to_nothing": ("class G:\n    def compile(self, checkpointer): return 7\ng = G()", "g", "it is a G"),
    "compiles_otherwise": ("import re", "re", "TypeError"),
    "impossible": (f"{FROM_US}w = Workflow(graph=1, timeout=-1)", "w", "timeout"),
    "workflow_of_a_number": (f"{FROM_US}w = Workflow(graph=1)", "w", "int"),
    "workflow_of_a_workflow": (f"{FROM_US}w = Workflow(graph=Workflow(graph=1))", "w", "Workflow"),
}


def test_every_kind_of_broken_entry_is_unavailable_with_a_sentence_and_harms_no_other(shelf: Shelf) -> None:
    good = shelf.value(GRAPH)
    broken = {name: shelf.value(source, attribute) for name, (source, attribute, _) in BROKEN.items()}
    shelf.register({"aaa": good, **broken, "zzz": good})
    registry = _load()
    assert list(registry.available) == ["aaa", "zzz"]
    assert set(registry.unavailable) == set(broken)
    for name, (_, _, said) in BROKEN.items():
        assert said in registry.unavailable[name]
        assert "\n" not in registry.unavailable[name]


@pytest.mark.parametrize(
    "value", ["no_such_module_anywhere:graph", "this is no reference", ":", "json:", "json", "..:x"]
)
def test_an_entry_that_points_nowhere_is_unavailable_and_harms_no_other(shelf: Shelf, value: str) -> None:
    shelf.register({"lost": value, "orders": shelf.value(GRAPH)})
    registry = _load()
    assert list(registry.available) == ["orders"]
    assert list(registry.unavailable) == ["lost"]
    assert registry.unavailable["lost"]


def test_why_a_registration_is_impossible_is_told_to_the_letter(shelf: Shelf) -> None:
    source = "from resumed import Workflow\nw = Workflow(graph=1, max_attempts=0)\n"
    shelf.register({"orders": shelf.value(source, "w")})
    assert _load().unavailable == {"orders": "max_attempts must be a whole number from 1 to 2147483647, not 0"}


def test_a_message_of_an_import_error_which_may_hold_a_secret_is_not_repeated(shelf: Shelf) -> None:
    shelf.register({"orders": shelf.value("raise ValueError('password=hunter2')")})
    assert "hunter2" not in _load().unavailable["orders"]


def test_an_import_that_hangs_is_given_up_after_the_deadline_and_the_next_is_loaded(shelf: Shelf) -> None:
    gate = shelf.module("import threading\nentered, gate = threading.Event(), threading.Event()\n")
    hanging = shelf.value(f"import {gate} as held\nheld.entered.set()\nheld.gate.wait(60)\n{GRAPH}")
    shelf.register({"hanging": hanging, "later": shelf.value(GRAPH)})
    began = time.monotonic()
    try:
        registry = _load(deadline=timedelta(seconds=2))
        took = time.monotonic() - began
        assert sys.modules[gate].entered.is_set()
        assert list(registry.available) == ["later"]
        assert list(registry.unavailable) == ["hanging"]
        assert "did not end within 2 s" in registry.unavailable["hanging"]
        assert 2 <= took < 30
    finally:
        sys.modules[gate].gate.set()
        _join_loaders()


def test_an_import_that_ends_after_its_deadline_does_not_become_available(shelf: Shelf) -> None:
    gate = shelf.module("import threading\ngate = threading.Event()\n")
    shelf.register({"late": shelf.value(f"import {gate} as held\nheld.gate.wait(60)\n{GRAPH}")})
    registry = _load(deadline=timedelta(milliseconds=200))
    sys.modules[gate].gate.set()
    _join_loaders()
    assert registry.available == {}
    assert list(registry.unavailable) == ["late"]


def _join_loaders() -> None:
    """No thread of an import may outlive its test."""
    for thread in threading.enumerate():
        if thread.name.startswith("load-"):
            thread.join(30)
            assert not thread.is_alive()


def test_a_name_is_told_before_its_import_begins(shelf: Shelf) -> None:
    told = shelf.module("names = []\n")
    importlib.import_module(told)
    source = f"import {told}\n{told}.names.append('imported')\n{GRAPH}"
    shelf.register({"orders": shelf.value(source)})
    _load(on_loading=sys.modules[told].names.append)
    assert sys.modules[told].names == ["orders", "imported"]


def test_two_entries_with_one_name_are_both_unavailable_and_their_distributions_named(shelf: Shelf) -> None:
    imported = shelf.module(f"raise AssertionError\n{GRAPH}")
    shelf.register({"orders": f"{imported}:graph"}, "first-shop")
    shelf.register({"orders": f"{imported}:graph", "other": shelf.value(GRAPH)}, "second-shop")
    asked: list[str] = []
    registry = _load(on_loading=asked.append)
    assert list(registry.available) == ["other"] == asked
    assert all(part in registry.unavailable["orders"] for part in ("first-shop", "second-shop", "rename"))


def test_one_distribution_that_is_on_the_path_twice_registers_once(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = tmp_path / "twin"
    twin.mkdir()
    monkeypatch.syspath_prepend(str(twin))
    value = shelf.value(GRAPH)
    shelf.register({"orders": value})
    Shelf(twin).register({"orders": value})
    assert list(_load().available) == ["orders"]


def test_a_distribution_whose_entry_points_cannot_be_read_harms_no_other(shelf: Shelf) -> None:
    shelf.register({"orders": shelf.value(GRAPH)})
    shelf.write("broken", f"[{GROUP}]\nthis line has no equals sign\n")
    assert list(_load().available) == ["orders"]


# What is asked for


def test_only_the_entries_that_were_asked_for_are_imported(shelf: Shelf) -> None:
    never = shelf.module(GRAPH)
    shelf.register({"orders": shelf.value(GRAPH), "other": f"{never}:graph"})
    registry = _load("orders")
    assert (list(registry.available), registry.unavailable) == (["orders"], {})
    assert never not in sys.modules


def test_a_name_that_nobody_registered_is_unavailable_with_the_reason(shelf: Shelf) -> None:
    shelf.register({"orders": shelf.value(GRAPH)})
    registry = _load("orders", "ordres")
    assert list(registry.available) == ["orders"]
    assert GROUP in registry.unavailable["ordres"]


def test_names_are_matched_to_the_letter(shelf: Shelf) -> None:
    shelf.register({"orders": shelf.value(GRAPH)})
    assert list(_load("Orders").unavailable) == ["Orders"]
    assert _load("order").available == {}


def test_an_empty_selection_loads_nothing(shelf: Shelf) -> None:
    shelf.register({"orders": shelf.value(GRAPH)})
    assert load_registry(Selection((), {}, PATIENCE, lambda _: None)) == Registry()


def test_what_is_excluded_is_not_imported_and_keeps_the_reason_it_was_given(shelf: Shelf) -> None:
    never = shelf.module(GRAPH)
    shelf.register({"deadly": f"{never}:graph", "orders": shelf.value(GRAPH)})
    asked: list[str] = []
    registry = _load(excluded={"deadly": "its import ended the process"}, on_loading=asked.append)
    assert registry.unavailable == {"deadly": "its import ended the process"}
    assert list(registry.available) == ["orders"] == asked
    assert never not in sys.modules


def test_what_is_excluded_but_was_not_asked_for_is_not_spoken_of(shelf: Shelf) -> None:
    shelf.register({"deadly": "no_such_module:graph", "orders": shelf.value(GRAPH)})
    registry = _load("orders", excluded={"deadly": "its import ended the process"})
    assert registry.unavailable == {}


# One object, and what an attempt makes of it


def test_each_kind_is_resolved_to_a_compiled_graph() -> None:
    compiled = _graph().compile()
    assert resolve("x", compiled).graph is compiled
    assert resolve("x", Workflow(graph=compiled)).graph is compiled
    assert isinstance(resolve("x", _graph()).graph, Pregel)


def _kind(found: object) -> str:
    return type(found).__name__


@pytest.mark.parametrize("found", [5, None, "shop:graph", object(), []], ids=_kind)
def test_anything_else_is_refused_with_its_type(found: object) -> None:
    with pytest.raises(RegistrationError, match="register a StateGraph"):
        resolve("x", found)


def test_a_graph_that_was_not_compiled_gets_no_checkpointer_of_its_own() -> None:
    assert resolve("x", _graph()).graph.checkpointer is None


def test_our_checkpointer_takes_the_place_of_the_graphs_own_in_a_copy() -> None:
    own, ours = InMemorySaver(), InMemorySaver()
    loaded = resolve("x", _graph().compile(checkpointer=own))
    bound = loaded.bind(ours)
    config = {"configurable": {"thread_id": "t"}}
    assert bound.invoke({"total": 1}, config) == {"total": 2}
    assert ours.get_tuple(config) is not None
    assert own.get_tuple(config) is None
    assert loaded.graph.checkpointer is own


def test_two_attempts_at_once_each_have_their_own_checkpointer() -> None:
    loaded = resolve("x", _graph())
    first, second = InMemorySaver(), InMemorySaver()
    bound = loaded.bind(first), loaded.bind(second)
    assert (bound[0].checkpointer, bound[1].checkpointer) == (first, second)
    assert loaded.graph.checkpointer is None


def test_an_entrypoint_with_a_checkpointer_of_its_own_is_given_ours() -> None:
    own, ours = InMemorySaver(), InMemorySaver()

    @entrypoint(checkpointer=own)
    def double(number: int) -> int:
        return number * 2

    config = {"configurable": {"thread_id": "t"}}
    assert resolve("x", double).bind(ours).invoke(4, config) == 8
    assert ours.get_tuple(config) is not None
    assert own.get_tuple(config) is None


def test_store_and_cache_of_the_registration_take_the_place_of_the_graphs() -> None:
    store, cache = InMemoryStore(), InMemoryCache[Any]()
    bound = resolve("x", Workflow(graph=_graph(), store=store, cache=cache)).bind(InMemorySaver())
    assert (bound.store, bound.cache) == (store, cache)


def test_where_the_registration_names_no_store_and_no_cache_the_graph_keeps_its_own() -> None:
    store, cache = InMemoryStore(), InMemoryCache[Any]()
    bound = resolve("x", _graph().compile(store=store, cache=cache)).bind(InMemorySaver())
    assert (bound.store, bound.cache) == (store, cache)


def _stops(own: dict[str, Any], **declared: Any) -> list[int]:
    """Where the graph, given breakpoints of its own and of the registration, stands after each call."""
    graph = StateGraph(Total)
    before = START
    for name in ("a", "b", "c"):
        graph.add_node(name, lambda state: {"total": state["total"] + 1})
        graph.add_edge(before, name)
        before = name
    graph.add_edge("c", END)
    bound = resolve("x", Workflow(graph=graph.compile(**own), **declared)).bind(InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    totals: list[int] = []
    given: Any = {"total": 0}
    while not totals or bound.get_state(config).next:
        totals.append(bound.invoke(given, config).get("total"))
        given = None
    return totals


@pytest.mark.parametrize(
    ("own", "declared", "stops"),
    [
        ({}, {}, [3]),
        ({}, {"interrupt_before": ("b",)}, [1, 3]),
        ({}, {"interrupt_after": ["b"]}, [2, 3]),
        ({"interrupt_before": ["c"]}, {}, [2, 3]),
        ({"interrupt_before": ["c"]}, {"interrupt_before": ("b",)}, [1, 2, 3]),
        ({"interrupt_after": ["a"]}, {"interrupt_before": ("c",)}, [1, 2, 3]),
        ({}, {"interrupt_before": "*"}, [0, 1, 2, 3]),
        ({"interrupt_before": "*"}, {"interrupt_before": ("b",)}, [0, 1, 2, 3]),
    ],
    ids=str,
)
def test_an_attempt_stops_at_the_graphs_own_breakpoints_and_at_the_declared_ones(
    own: dict[str, Any], declared: dict[str, Any], stops: list[int]
) -> None:
    assert _stops(own, **declared) == stops


@pytest.mark.parametrize("name", ["interrupt_before", "interrupt_after"])
def test_a_breakpoint_that_is_bound_to_the_calls_is_taken_as_langgraph_takes_it(name: str) -> None:
    for given in ("add", {"add"}, ["add"]):
        made = resolve("x", _graph().compile().bind(**{name: given}))
        assert isinstance(made, LoadedWorkflow)
        assert list(getattr(made.graph, f"{name}_nodes")) == ["add"]
    with pytest.raises(RegistrationError, match="aprove"):
        resolve("x", _graph().compile().bind(**{name: ["aprove"]}))


@pytest.mark.parametrize("name", ["interrupt_before", "interrupt_after"])
def test_a_breakpoint_at_a_node_that_the_graph_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(RegistrationError, match="aprove"):
        resolve("x", Workflow(graph=_graph(), **{name: ("aprove",)}))
