"""An application to be killed: four LangGraph workflows, each registered as an entry point of `resumed.workflows`."""
