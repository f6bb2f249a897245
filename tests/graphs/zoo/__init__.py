"""Example workflows whose every node leaves a start line and an end line in a log of side effects."""
