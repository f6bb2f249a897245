"""Adds up what every process of a run wrote down, and prints it: the table first, then each thing that is wrong."""

import json
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

Line = dict[str, Any]
_LONGEST = 700


def printed(results: Path, seconds: float) -> int:
    """Print the summary of a run; 1 where a position is wrong, a cut unexplained, or anything could not be judged."""
    lines = [json.loads(line) for file in sorted(results.glob("*.jsonl")) for line in file.read_text().splitlines()]
    positions = [line for line in lines if line["kind"] == "position"]
    cuts = [line for line in lines if line["kind"] == "cut"]
    tests = Counter(line["outcome"] for line in lines if line["kind"] == "test")
    print(
        f"\nlanggraph {version('langgraph')}, checkpoint-postgres {version('langgraph-checkpoint-postgres')}: ", end=""
    )
    print(f"{sum(tests.values())} tests with a checkpointer of ours ({_told(tests)}) in {seconds / 60:.0f} min")
    print(f"threads at the end of their test: {_told(_rulings(line for line in positions if line.get('ended')))}")
    print(f"positions after a call or an edit: {_told(_rulings(positions))}")
    print(f"cuts after a transaction of a call: {_told(_rulings(cuts))}, ", end="")
    print(f"not made {sum(line['cuts'] for line in lines if line['kind'] == 'omitted')}")
    _reasons("undecidable", positions, "oracle")
    for ruling in ("equal", "held", "explained"):
        _reasons(ruling, cuts, "why")
    bad = [line for line in lines if _bad(line)]
    for line in lines:
        if line["kind"] == "conformance":
            print(f"conformance: {line['saver']}: {line['passed']} passed, {line['failed']} failed ", end="")
            print(f"({line['allowed']} by design)")
    for line in bad:
        print("\nWRONG", json.dumps(line)[:_LONGEST])
    print(f"\n{len(bad)} wrong" if bad else "\nnothing wrong")
    return 1 if bad or not positions else 0


def _bad(line: Line) -> bool:
    if line["kind"] == "conformance":
        return bool(line["failed"] != line["allowed"])
    return line["kind"] in ("broken", "stuck") or line.get("ruling") in ("wrong", "unexplained")


def _rulings(lines: Any) -> Counter[str]:
    return Counter(line["ruling"] for line in lines)


def _told(counted: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counted.most_common()) or "none"


def _reasons(ruling: str, lines: list[Line], field: str) -> None:
    for reason, count in Counter(
        str(line[field]).split(": {")[0].split(": [")[0][:110] for line in lines if line["ruling"] == ruling
    ).most_common(12):
        print(f"    {ruling}: {count} x {reason}")
