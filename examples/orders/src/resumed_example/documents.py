"""Documents: a fan-out with `Send`, one reader a page, and a subgraph that reviews what they read."""

from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from resumed import Workflow
from resumed_example.effects import work


def in_order(left: list[str], right: list[str]) -> list[str]:
    """Collect what the readers found, whoever was first."""
    return sorted([*left, *right])


class Document(TypedDict):
    """A document of some pages, and what became of it."""

    number: int
    pages: int
    read: Annotated[list[str], in_order]
    summary: str


class Summary(TypedDict):
    """What the reviewers hand back; the pages, which they only look at, would be collected a second time."""

    summary: str


class Review(Summary):
    """What the reviewers look at."""

    read: list[str]


class Page(TypedDict):
    """What one reader is given."""

    page: int


async def scan(_: Document, config: RunnableConfig) -> dict[str, Any]:
    """Put the document on the glass."""
    await work("scan", config)
    return {}


def a_reader_each(document: Document) -> list[Send]:
    """Send every page to a reader of its own."""
    return [Send("read", {"page": page}) for page in range(1, document["pages"] + 1)]


async def read(given: Page, config: RunnableConfig) -> dict[str, Any]:
    """Read one page."""
    await work(f"read page {given['page']}", config)
    return {"read": [f"page {given['page']}"]}


async def spell(document: Review, config: RunnableConfig) -> dict[str, Any]:
    """Correct the spelling, inside the subgraph."""
    await work("spell", config)
    return {"summary": f"{len(document['read'])} pages spelt"}


async def summarise(document: Review, config: RunnableConfig) -> dict[str, Any]:
    """Write the summary, inside the subgraph."""
    await work("summarise", config)
    return {"summary": f"{document['summary']} and summarised"}


async def publish(document: Document, config: RunnableConfig) -> dict[str, Any]:
    """Publish the document."""
    await work("publish", config)
    return {"summary": f"document {document['number']}: {document['summary']}"}


def _review() -> Any:
    graph = StateGraph(Review, output_schema=Summary)
    graph.add_node("spell", spell)
    graph.add_node("summarise", summarise)
    graph.add_edge(START, "spell")
    graph.add_edge("spell", "summarise")
    graph.add_edge("summarise", END)
    return graph.compile()


def _graph() -> StateGraph[Document, Any, Any, Any]:
    graph = StateGraph(Document)
    graph.add_node("scan", scan)
    graph.add_node("read", read)
    graph.add_node("review", _review())
    graph.add_node("publish", publish)
    graph.add_edge(START, "scan")
    graph.add_conditional_edges("scan", a_reader_each, ["read"])
    graph.add_edge("read", "review")
    graph.add_edge("review", "publish")
    graph.add_edge("publish", END)
    return graph


def request(number: int) -> dict[str, Any]:
    """Give the input of the thread of this number."""
    return {"number": number, "pages": 2 + number % 3, "read": [], "summary": ""}


workflow = Workflow(graph=_graph(), version="1")
