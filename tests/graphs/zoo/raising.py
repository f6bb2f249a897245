"""An entry whose import raises, with a secret in its message."""

raise RuntimeError("no api_key=hunter2 in the environment")
