"""Flows that ask a person, and the person: asked, answering, and killed with the process at any call of its saver."""
