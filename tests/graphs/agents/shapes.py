"""The agents: each as its library's guide builds it, with models and tools of ours."""

import warnings
from typing import Annotated, Any, NotRequired

from deepagents import create_deep_agent
from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, TodoListMiddleware, wrap_model_call, wrap_tool_call
from langchain.agents.structured_output import ToolStrategy
from langchain.tools import ToolRuntime, tool
from langchain_core.messages import HumanMessage
from langchain_core.tools import BaseTool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph_supervisor import create_supervisor
from langgraph_swarm import create_handoff_tool, create_swarm
from pydantic import BaseModel

from agents.models import call, scripted
from agents.tools import ask_first, look_up, pay, pay_now, remember

Built = Any
SHIPMENTS = ("s1", "s2", "s3")


def plain() -> Built:
    """One call, then two at once, then one: what `create_agent` sends to its tools one task a call."""
    model = scripted(
        [call("look_up", "l1", what="the price")],
        [call("pay", "p1", amount=1), call("pay_now", "p2", amount=2)],
        [call("look_up", "l2", what="the receipt")],
    )
    return create_agent(model, [look_up, pay, pay_now], name="plain")


def tool_node() -> Built:
    """A graph made by hand, whose `ToolNode` runs all calls of a message in one task."""
    model = scripted(
        [call("look_up", "l1", what="the price")],
        [call("pay_now", "p1", amount=1), call("pay", "p2", amount=2), call("look_up", "l2", what="it")],
    )

    def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph: Any = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode([look_up, pay, pay_now]))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    return graph


class Keeping(AgentState[Any]):
    kept: NotRequired[str]


class Report(BaseModel):
    """What the agent has to answer with."""

    total: int
    notes: list[str] = []


def structured() -> Built:
    """An answer of a type, a list of things to do, a tool that updates the state."""
    todos = [{"content": "count", "status": "in_progress"}]
    model = scripted(
        [call("write_todos", "t1", todos=todos)],
        [call("remember", "r1", what="three")],
        [call("Report", "a1", total=3, notes=["counted"])],
    )
    return create_agent(
        model,
        [remember],
        middleware=[TodoListMiddleware()],
        state_schema=Keeping,
        response_format=ToolStrategy(Report),
        name="structured",
    )


def reviewed(*, mode: Any = "batched", last: str = "done", calls: int = 1) -> Built:
    """A tool that a person has to approve, beside one that nobody has to."""
    gated = [call("pay", f"p{number}", amount=number) for number in range(1, calls + 1)]
    model = scripted([call("look_up", "l1", what="the price")], [*gated, call("look_up", "l2", what="it")], last=last)
    review = HumanInTheLoopMiddleware(interrupt_on={"pay": True}, interrupt_mode=mode)
    return create_agent(model, [look_up, pay], middleware=[review], name="reviewed")


def asking() -> Built:
    """A tool that asks from within, beside one that does not."""
    model = scripted([call("ask_first", "a1", question="how many"), call("look_up", "l1", what="it")])
    return create_agent(model, [ask_first, look_up], name="asking")


def supervised() -> Built:
    """A supervisor that has one agent look something up and then another one pay."""
    researcher = create_agent(
        scripted([call("look_up", "l1", what="the price")], speaker="researcher"), [look_up], name="researcher"
    )
    payer = create_agent(scripted([call("pay", "p1", amount=1)], speaker="payer"), [pay], name="payer")
    model = scripted(
        [call("transfer_to_researcher", "h1")], [call("transfer_to_payer", "h2")], speaker="supervisor", last="all done"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it builds its own agent with what LangGraph has deprecated
        return create_supervisor([researcher, payer], model=model)


def swarm() -> Built:
    """Two agents that hand over to each other."""
    to_payer = create_handoff_tool(agent_name="payer")
    to_researcher = create_handoff_tool(agent_name="researcher")
    researcher = create_agent(
        scripted([call("look_up", "l1", what="the price")], [call("transfer_to_payer", "h1")], speaker="researcher"),
        [look_up, to_payer],
        name="researcher",
    )
    payer = create_agent(
        scripted([call("pay", "p1", amount=1)], speaker="payer", last="paid"), [pay, to_researcher], name="payer"
    )
    return create_swarm([researcher, payer], default_active_agent="researcher")


def deep(**options: Any) -> Built:
    """A deep agent: a look at its files, a subagent that works in a tool, a file of its own and a tool of its own."""
    worker = {
        "name": "worker",
        "description": "Does the work.",
        "system_prompt": "Work.",
        "model": scripted([call("look_up", "l1", what="the price")], [call("pay", "p1", amount=1)], speaker="worker"),
        "tools": [look_up, pay],
        **options,
    }
    model = scripted(
        [call("ls", "t1", path="/")],
        [call("task", "k1", description="work", subagent_type="worker")],
        [call("write_file", "f1", file_path="/report.txt", content="done"), call("pay_now", "p2", amount=2)],
        speaker="deep",
    )
    return create_deep_agent(model, [pay_now], subagents=[worker], name="deep")


def in_session(tools: list[BaseTool]) -> Built:
    """An agent whose tools live on a session that somebody else has opened."""
    name = tools[0].name
    model = scripted([call(name, "a1", what="one")], [call(name, "a2", what="two"), call(name, "a3", what="three")])
    return create_agent(model, tools, name="in_session")
