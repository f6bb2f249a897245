"""All SQL lives here, beside the functions that run it. Nothing here decides what a thread deserves."""
