"""Graphs that a property test draws, and the process in which they are run and killed."""
