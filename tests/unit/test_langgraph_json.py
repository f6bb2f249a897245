"""A LangGraph CLI file registers its graphs the same way."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from resumed.errors import RegistrationError
from resumed.workflows import langgraph_json
from resumed.workflows.factories import Factory
from resumed.workflows.loader import Registry, Selection, load_registry

SOURCE = """
from typing import TypedDict
from langgraph.graph import END, START, StateGraph
{imports}

class Total(TypedDict):
    total: int


graph = StateGraph(Total)
graph.add_node("add", lambda state: {{"total": state["total"] + 1}})
graph.add_edge(START, "add")
graph.add_edge("add", END)


def make(config):
    return graph.compile()
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a project with a langgraph.json; path, modules and environment are put back afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules, variables = set(sys.modules), set(os.environ)

    def written(content: Any, **files: str) -> Path:
        for name, text in files.items():
            place = tmp_path / name.replace("____init__", "/@").replace("__", "/").replace("@", "__init__")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.with_suffix(".py").write_text(text)
        file = tmp_path / "langgraph.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    yield written
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    for name in set(os.environ) - variables:
        del os.environ[name]


def loaded(file: Path, names: tuple[str, ...] | None = None) -> Registry:
    return load_registry(Selection(names, {}, timedelta(seconds=20), lambda _: None, file))


def test_relative_files_and_modules_are_loaded(write: Write) -> None:
    graphs = {
        "by_file": "./shop_file.py:graph",
        "in_folder": "./src/shop_pack/deep.py:graph",
        "by_module": "shop_module:graph",
        "by_object": {"path": "./shop_file.py:graph", "description": "an agent"},
        "by_callable": "./shop_file.py:make",
    }
    source = SOURCE.format(imports="")
    file = write(
        {"dependencies": ["."], "graphs": graphs},
        shop_file=source,
        src__shop_pack__deep=source,
        src__shop_pack____init__="",
        shop_module=source,
    )
    registry = loaded(file)
    assert registry.unavailable == {}
    assert set(registry.available) == {"by_file", "in_folder", "by_module", "by_object"}
    assert isinstance(registry.factories["by_callable"], Factory)


def test_a_file_that_is_on_the_path_keeps_the_name_that_stored_classes_have(write: Write) -> None:
    file = write(
        {"dependencies": ["."], "graphs": {"x": "./src/shop_named/deep.py:graph"}},
        src__shop_named__deep=SOURCE.format(imports=""),
        src__shop_named____init__="",
    )
    assert "x" in loaded(file).available
    assert "shop_named.deep" in sys.modules


def test_one_broken_graph_of_three_takes_nothing_with_it(write: Write) -> None:
    good = SOURCE.format(imports="")
    file = write(
        {
            "graphs": {
                "a": "./shop_a.py:graph",
                "b": "./shop_b.py:graph",
                "c": "./shop_c.py:graph",
                "d": "./none.py:graph",
            }
        },
        shop_a=good,
        shop_b=SOURCE.format(imports="import no_such_package_anywhere"),
        shop_c=good,
    )
    registry = loaded(file)
    assert set(registry.available) == {"a", "c"}
    assert "ModuleNotFoundError" in registry.unavailable["b"]
    assert "there is no file none.py" in registry.unavailable["d"]


def test_its_env_is_set_where_nothing_is_set_yet(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SET", "mine")
    source = SOURCE.format(
        imports="import os\nassert os.environ['SHOP_KEY'] == 'k' and os.environ['SHOP_SET'] == 'mine'"
    )
    file = write({"graphs": {"a": "./shop_env.py:graph"}, "env": ".env"}, shop_env=source)
    (file.parent / ".env").write_text("SHOP_KEY=k\nSHOP_SET=theirs\n")
    assert "a" in loaded(file).available


def test_its_env_may_be_an_object(write: Write) -> None:
    source = SOURCE.format(imports="import os\nassert os.environ['SHOP_OBJECT'] == '1'")
    file = write({"graphs": {"a": "./shop_object.py:graph"}, "env": {"SHOP_OBJECT": "1"}}, shop_object=source)
    assert "a" in loaded(file).available


def test_only_the_graphs_that_were_asked_for_are_imported(write: Write) -> None:
    good = SOURCE.format(imports="")
    file = write({"graphs": {"a": "./shop_one.py:graph", "b": "./shop_two.py:graph"}}, shop_one=good, shop_two=good)
    assert set(loaded(file, ("b",)).available) == {"b"}
    assert "shop_one" not in sys.modules


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[]", 'has no "graphs"'),
        ({}, 'has no "graphs"'),
        ({"graphs": []}, 'has no "graphs"'),
        ({"graphs": {"a": 5}}, "no place"),
    ],
)
def test_a_file_that_says_nothing_usable_is_told_of_in_a_sentence(write: Write, content: Any, said: str) -> None:
    registry = loaded(write(content))
    assert registry.available == {}
    assert said in registry.unavailable["langgraph.json"]


@pytest.mark.parametrize("place", ["./shop.py", "shop", "", ":graph", "shop:"])
def test_a_place_of_another_form_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(RegistrationError, match="is not of the form"):
        langgraph_json.load_graph(tmp_path / "langgraph.json", place)


def test_a_file_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    assert "cannot be read" in loaded(tmp_path / "absent.json").unavailable["absent.json"]


STATE = """
from enum import Enum


class Review(Enum):
    HELD = "held"
"""


@pytest.mark.parametrize("dependencies", [["."], ["./src"], ["./src/agent"], ["langgraph"], None])
def test_a_file_in_a_package_has_the_name_that_its_application_imports(write: Write, dependencies: Any) -> None:
    content = {"dependencies": dependencies, "graphs": {"x": "./src/agent/graph.py:graph"}}
    file = write(
        content,
        src____init__="",
        src__agent____init__="",
        src__agent__state=STATE,
        src__agent__graph=SOURCE.format(imports="from src.agent.state import Review\nfrom .state import Review as R"),
    )
    registry = loaded(file)
    assert registry.unavailable == {}
    module = sys.modules["src.agent.graph"]
    assert module.Review is module.R
    assert not {"agent", "agent.graph", "graph", "state"} & set(sys.modules)


def test_a_file_that_is_imported_already_is_not_imported_again(write: Write) -> None:
    file = write(
        {"graphs": {"a": "shop_space.deep:graph", "b": "./shop_space/deep.py:graph"}},
        shop_space__deep=SOURCE.format(imports=""),
    )
    registry = loaded(file)
    assert set(registry.available) == {"a", "b"}
    deep = [name for name in sys.modules if name.endswith("deep")]
    assert deep == ["shop_space.deep"]


def test_a_package_that_is_on_no_path_is_imported_whole(write: Write) -> None:
    file = write(
        {"dependencies": ["langgraph"], "graphs": {"x": "./shop_whole/__init__.py:graph"}},
        shop_whole____init__="from .deep import graph",
        shop_whole__deep=SOURCE.format(imports=""),
    )
    assert "x" in loaded(file).available
    assert "shop_whole.deep" in sys.modules


def test_what_its_package_raises_is_said_and_the_file_is_not_imported_under_another_name(write: Write) -> None:
    source = SOURCE.format(imports="")
    file = write(
        {"graphs": {"a": "./shop_broken/one.py:graph"}},
        shop_broken____init__="import not_installed_here",
        shop_broken__one=source,
    )
    registry = loaded(file)
    assert "not_installed_here" in registry.unavailable["a"]
    assert "one" not in sys.modules


def test_two_files_of_one_name_are_not_taken_for_each_other(write: Write) -> None:
    source = SOURCE.format(imports="")
    content = {
        "dependencies": ["langgraph"],
        "graphs": {"a": "./one/shop_same.py:graph", "b": "./two/shop_same.py:graph"},
    }
    registry = loaded(write(content, one__shop_same=source, two__shop_same=source))
    assert set(registry.available) == {"a"}
    assert "another module is named shop_same already" in registry.unavailable["b"]
