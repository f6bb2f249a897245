"""Helm's own engine, in a process of its own: it is a library in Go, which has no place in one that forks."""

import importlib
import importlib.util
import json
import subprocess
import sys
from typing import Any

import pytest

from support.deployment import ROOT

CHART = ROOT / "deploy" / "helm" / "resumed"
needs_helm = pytest.mark.skipif(
    not importlib.util.find_spec("helm_python"), reason="helm-python-sdk has no wheel for this system"
)


class RefusedError(Exception):
    """Helm refused the chart or its values."""


class Helm:
    """Answers one question a line."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.helm", str(CHART)],
            cwd=ROOT / "tests",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def render(self, values: dict[str, Any], name: str = "resumed") -> dict[str, str]:
        """Return each template's text, as `helm install` would send it; raises RefusedError."""
        return dict(self._ask("render", values, name))

    def lint(self, values: dict[str, Any]) -> dict[str, Any]:
        return dict(self._ask("lint", values, ""))

    def close(self) -> None:
        if self._process.stdin and self._process.stdout:
            self._process.stdin.close()
            self._process.stdout.close()
        self._process.wait()

    def _ask(self, what: str, values: dict[str, Any], name: str) -> Any:
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("the process has pipes")
        self._process.stdin.write(json.dumps([what, values, name]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "refused" in answer:
            raise RefusedError(answer["refused"])
        return answer["answer"]


def answer(chart: str) -> None:
    """Answer what comes on stdin, until that is closed."""
    engine = importlib.import_module("helm_python")
    with engine.Chart.load(chart) as loaded:
        for line in sys.stdin:
            what, values, name = json.loads(line)
            try:
                if what == "render":
                    loaded.validate_schema(values)
                    told: Any = loaded.render(values, name=name, namespace="shop", is_install=True)
                else:
                    told = engine.lint(chart, values, strict=True, kube_version="v1.30.0")
                print(json.dumps({"answer": told}), flush=True)
            except engine.HelmError as error:
                print(json.dumps({"refused": str(error)}), flush=True)


if __name__ == "__main__":
    answer(sys.argv[1])
