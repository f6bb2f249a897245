"""Threads that must not pass for finished: code that changed under them, faults in routes, classes that are gone."""
