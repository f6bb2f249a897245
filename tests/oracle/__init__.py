"""LangGraph's own test suite as a judge of our verdicts, attempts and savers: `make oracle LANGGRAPH=/path/to/langgraph`."""
