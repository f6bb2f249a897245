"""Raises what names a secret."""

SETTINGS: dict[str, str] = {}
if not SETTINGS.get("tenant"):
    raise KeyError("no tenant, password=hunter2")
