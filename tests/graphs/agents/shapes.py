"""The agents: each as the guide of its library builds it, with models and tools of ours."""

import warnings
from typing import Any, NotRequired

from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import (
    HumanInTheLoopMiddleware,
    ModelCallLimitMiddleware,
    ModelRetryMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
    ToolCallLimitMiddleware,
    ToolRetryMiddleware,
)
from langchain.agents.structured_output import ToolStrategy
from langchain.tools import ToolRuntime, tool
from langchain_core.messages import HumanMessage
from langchain_core.tools import BaseTool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel

from agents.models import call, scripted
from agents.tools import ask_first, look_up, pay, pay_now, remember

Built = Any  # a graph, compiled or not


def plain() -> Built:
    """One call, then two at once, then one: `create_agent` runs each call of a message as a task of its own."""
    model = scripted(
        [call("look_up", "l1", what="the price")],
        [call("pay", "p1", amount=1), call("pay_now", "p2", amount=2)],
        [call("look_up", "l2", what="the receipt")],
    )
    return create_agent(model, [look_up, pay, pay_now], name="plain")


def tool_node() -> Built:
    """A graph made by hand: its `ToolNode` runs all calls of a message in one task."""
    model = scripted(
        [call("look_up", "l1", what="the price")],
        [call("pay_now", "p1", amount=1), call("pay", "p2", amount=2), call("look_up", "l2", what="it")],
    )
    return by_hand(model, [look_up, pay, pay_now])


def by_hand(model: Any, tools: list[BaseTool]) -> Built:
    def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph: Any = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    return graph


class Keeping(AgentState[Any]):
    """What an agent keeps beside its messages."""

    kept: NotRequired[str]


class Report(BaseModel):
    """What the agent has to answer with."""

    total: int
    notes: list[str] = []


def structured() -> Built:
    """An answer of a type, a list of things to do, a tool that updates the state."""
    model = scripted(
        [call("write_todos", "t1", todos=[{"content": "count", "status": "in_progress"}])],
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


def limited() -> Built:
    """Middleware that counts in the state, and middleware that tries again."""
    model = scripted(*[[call("look_up", f"l{number}", what=str(number))] for number in (1, 2, 3)])
    limits = [ModelCallLimitMiddleware(thread_limit=3), ToolCallLimitMiddleware(tool_name="look_up", thread_limit=2)]
    return create_agent(
        model, [look_up], middleware=[*limits, ToolRetryMiddleware(), ModelRetryMiddleware()], name="limited"
    )


def summarized() -> Built:
    """Middleware that takes messages out of the state and puts a summary in their place."""
    model = scripted(*[[call("look_up", f"l{number}", what=str(number))] for number in (1, 2, 3)])
    shorter = SummarizationMiddleware(model=scripted(last="short"), trigger=("messages", 4), keep=("messages", 2))
    return create_agent(model, [look_up], middleware=[shorter], name="summarized")


def reviewed(*, mode: Any = "batched", payments: int = 1) -> Built:
    """A tool that a person has to approve, beside one that nobody has to."""
    gated = [call("pay", f"p{number}", amount=number) for number in range(1, payments + 1)]
    model = scripted([call("look_up", "l1", what="the price")], [*gated, call("look_up", "l2", what="it")])
    review = HumanInTheLoopMiddleware(interrupt_on={"pay": True}, interrupt_mode=mode)
    return create_agent(model, [look_up, pay], middleware=[review], name="reviewed")


def asking() -> Built:
    """A tool that asks from within, beside one that does not."""
    model = scripted([call("ask_first", "a1", question="how many"), call("look_up", "l1", what="it")])
    return create_agent(model, [ask_first, look_up], name="asking")


def supervised() -> Built:
    """A supervisor that has one agent look something up, and then another one pay."""
    from langgraph_supervisor import create_supervisor  # noqa: PLC0415 - loaded where it is asked for

    researcher = create_agent(scripted([call("look_up", "l1", what="the price")]), [look_up], name="researcher")
    payer = create_agent(scripted([call("pay", "p1", amount=1)]), [pay], name="payer")
    model = scripted([call("transfer_to_researcher", "h1")], [call("transfer_to_payer", "h2")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it builds its own agent with what LangGraph has deprecated
        return create_supervisor([researcher, payer], model=model)


def companies() -> Built:
    """A supervisor of supervisors."""
    from langgraph_supervisor import create_supervisor  # noqa: PLC0415

    team = supervised().compile(name="team")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = scripted([call("transfer_to_team", "c1")])
        return create_supervisor([team], model=model, supervisor_name="owner", output_mode="full_history")


def swarm() -> Built:
    """Two agents, the first of which hands over to the second."""
    from langgraph_swarm import create_handoff_tool, create_swarm  # noqa: PLC0415

    to_payer, to_researcher = (create_handoff_tool(agent_name=name) for name in ("payer", "researcher"))
    research = scripted([call("look_up", "l1", what="the price")], [call("transfer_to_payer", "h1")])
    researcher = create_agent(research, [look_up, to_payer], name="researcher")
    payer = create_agent(scripted([call("pay", "p1", amount=1)]), [pay, to_researcher], name="payer")
    return create_swarm([researcher, payer], default_active_agent="researcher")


def keeping_state() -> Built:
    """An agent that keeps its own state, as a node of a graph."""
    model = scripted([call("look_up", "l1", what="one")], [call("pay", "p1", amount=1)])
    graph: Any = StateGraph(MessagesState)
    graph.add_node("first", lambda _: {"messages": [HumanMessage("first")]})
    graph.add_node("inner", create_agent(model, [look_up, pay], name="inner", checkpointer=True))
    graph.add_edge(START, "first")
    graph.add_edge("first", "inner")
    return graph


def deep(*, subagents: Any = None, **options: Any) -> Built:
    """A deep agent: a look at its files, a subagent that works in a tool, a file and a payment of its own."""
    from deepagents import create_deep_agent  # noqa: PLC0415

    worker = {
        "name": "worker",
        "description": "Does the work.",
        "system_prompt": "Work.",
        "model": scripted([call("look_up", "l1", what="the price")], [call("pay", "p1", amount=1)]),
        "tools": [look_up, pay],
        **options,
    }
    model = scripted(
        [call("ls", "t1", path="/")],
        [call("task", "k1", description="work", subagent_type="worker")],
        [call("write_file", "f1", file_path="/report.txt", content="done"), call("pay_now", "p2", amount=2)],
    )
    return create_deep_agent(model, [pay_now], subagents=subagents or [worker], name="deep")


def in_tool(**options: Any) -> Built:
    """An agent that is called inside a tool of another one."""
    model = scripted([call("look_up", "l1", what="one")], [call("pay", "p1", amount=1)])
    inner = create_agent(model, [look_up, pay], name="inner", **options)

    @tool
    async def delegate(task: str, runtime: ToolRuntime) -> str:
        """Have another agent do it."""
        done = await inner.ainvoke({"messages": [HumanMessage(task)]})
        return str(done["messages"][-1].content)

    model = scripted([call("delegate", "d1", task="it")], [call("pay_now", "p2", amount=2)])
    return create_agent(model, [delegate, pay_now], name="outer")


def in_session(tools: list[BaseTool]) -> Built:
    """An agent whose tools live on a session that somebody else has opened."""
    name = tools[0].name
    model = scripted([call(name, "a1", what="one")], [call(name, "a2", what="two"), call(name, "a3", what="three")])
    return create_agent(model, tools, name="in_session")
