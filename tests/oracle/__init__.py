"""LangGraph's own tests as a judge of verdicts, attempts and savers: `make oracle LANGGRAPH=/path/to/langgraph`."""
