"""A graph whose nodes need a context, and a registration that makes none: refused at load, not after five attempts."""

from dataclasses import dataclass, field
from typing import Any, NotRequired, Optional, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from pydantic import BaseModel

from resumed import Workflow
from resumed.errors import RegistrationError
from resumed.workflows.loaded_workflow import LoadedWorkflow
from resumed.workflows.loader import resolve


@dataclass
class Required:
    user: str
    region: str = "eu"


@dataclass
class Defaults:
    user: str = "nobody"
    more: list[str] = field(default_factory=list)


class RequiredModel(BaseModel):
    user: str


class DefaultsModel(BaseModel):
    user: str | None = None


class RequiredKeys(TypedDict):
    user: str


class OptionalKeys(TypedDict):
    model: Optional[str]  # noqa: UP045 - as it is written in the world
    system: str | None
    user: NotRequired[str]


class Plain:
    pass


class State(TypedDict):
    value: int


def graph(schema: Any) -> Any:
    made = StateGraph(State, context_schema=schema)
    made.add_node("only", lambda _: {"value": 1})
    made.add_edge(START, "only")
    return made


@pytest.mark.parametrize("schema", [Required, RequiredModel, RequiredKeys])
def test_a_schema_that_requires_something_needs_a_registration_that_makes_it(schema: Any) -> None:
    with pytest.raises(RegistrationError, match=r"requires user, and LangGraph stores no context: add Workflow"):
        resolve("orders", graph(schema))
    assert isinstance(resolve("orders", Workflow(graph=graph(schema), context=lambda _: None)), LoadedWorkflow)


@pytest.mark.parametrize("schema", [None, Defaults, DefaultsModel, OptionalKeys, Plain, dict])
def test_a_schema_that_can_be_done_without_is_no_matter(schema: Any) -> None:
    assert isinstance(resolve("orders", graph(schema)), LoadedWorkflow)
