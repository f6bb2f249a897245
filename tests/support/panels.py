"""The panels of the dashboard, and their queries as Grafana would send them."""

import json
from typing import Any

from support.deployment import DASHBOARD


def panels() -> list[dict[str, Any]]:
    board = json.loads(DASHBOARD.read_text())
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def filled_in(expression: str, rate_interval: str) -> str:
    """Fill in the variables, each at All."""
    values = {"$job": ".+", "$instance": ".+", "$workflow": ".*", "$__rate_interval": rate_interval}
    for name, value in values.items():
        expression = expression.replace(name, value)
    return expression
