"""Records what each test costs, and starts the longest first."""

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RECORDED = Path(__file__).parent / "durations.json"
_LONG = 1.5  # seconds; what is shorter stays in the order of its file, beside what shares its fixtures


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note the processor time of a test, that of its processes that were waited for included."""
    before = _cpu()
    item.stash[_BEFORE] = before
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: Any = yield
    if call.when == "teardown":
        report.user_properties.append(("cpu", round(_cpu() - item.stash[_BEFORE], 2)))
    return report


_BEFORE: pytest.StashKey[float] = pytest.StashKey()


class Recorder:
    """Sums up set-up, call and tear-down of every test, where the reports come together."""

    def __init__(self, file: Path) -> None:
        self._file, self._costs = file, dict[str, dict[str, float]]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cost = self._costs.setdefault(report.nodeid, {"seconds": 0.0, "cpu": 0.0})
        cost["seconds"] = round(cost["seconds"] + report.duration, 2)
        cost["cpu"] += dict(report.user_properties).get("cpu", 0.0)

    def pytest_sessionfinish(self) -> None:
        longest = sorted(self._costs.items(), key=lambda one: -one[1]["seconds"])
        total = {name: round(sum(cost[name] for cost in self._costs.values()), 1) for name in ("seconds", "cpu")}
        text = ",\n".join(f"{json.dumps(name)}: {json.dumps(cost)}" for name, cost in [("total", total), *longest])
        self._file.parent.mkdir(parents=True, exist_ok=True)  # in a clean clone pytest makes its cache after this
        self._file.write_text("{\n" + text + "\n}\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", type=Path, help="A file for the seconds of every test.")


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--record-durations")
    if file is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(file)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the long tests out to the processes, the longest first; each process gets a stretch of the list."""
    known = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    long = sorted((one for one in items if known.get(one.nodeid, 0) >= _LONG), key=lambda one: -known[one.nodeid])
    chosen = set(map(id, long))
    short = [one for one in items if id(one) not in chosen]
    count = int(getattr(config, "workerinput", {}).get("workercount", 1))
    share = -(-len(items) // count)
    dealt: list[pytest.Item] = []
    for number in range(count):
        mine = long[number::count]
        room = min(share, len(items) - share * number) - len(mine)
        dealt += mine + [short.pop(0) for _ in range(min(room, len(short)))]
    items[:] = dealt + short


def renew(run: Path) -> None:
    """Keep the seconds of a run's long tests, for the order of the next."""
    costs = json.loads(run.read_text())
    long = {name: cost["seconds"] for name, cost in costs.items() if cost["seconds"] >= _LONG and name != "total"}
    RECORDED.write_text(json.dumps(long, indent=0, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    renew(Path(sys.argv[1]))
