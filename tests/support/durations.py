"""Records what each test costs, and starts the longest first."""

import json
import resource
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
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


@pytest.hookimpl(trylast=True)  # when those that are not to run have been left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the long tests out to the processes, the longest first; each process gets a stretch of the list."""
    known = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    count = int(getattr(config, "workerinput", {}).get("workercount", 1))
    items[:] = deal(items, [known.get(one.nodeid, 0) for one in items], count)


def deal(items: Sequence[Any], seconds: Sequence[float], count: int) -> list[Any]:
    """Order items for `count` processes, to each of which xdist gives one stretch of the list.

    Each long one goes to the process that has the least to do so far; what is short fills the stretches up, in order.
    """
    rooms = [(len(items) + number) // count for number in range(count)]  # as xdist cuts the list
    order = sorted(range(len(items)), key=lambda index: -seconds[index])
    stretches: list[list[int]] = [[] for _ in rooms]
    loads = [0.0] * count
    for index in (one for one in order if seconds[one] >= _LONG):
        free = min((one for one in range(count) if len(stretches[one]) < rooms[one]), key=loads.__getitem__)
        stretches[free].append(index)
        loads[free] += seconds[index]
    dealt = {index for stretch in stretches for index in stretch}
    short = iter(index for index in range(len(items)) if index not in dealt)
    for stretch, room in zip(stretches, rooms, strict=True):
        stretch.extend(islice(short, room - len(stretch)))
    return [items[index] for stretch in stretches for index in stretch]


def renew(run: Path) -> None:
    """Keep the seconds of a run's long tests, for the order of the next; those that it left out stay as they were."""
    costs = json.loads(run.read_text())
    others = {name: seconds for name, seconds in json.loads(RECORDED.read_text()).items() if name not in costs}
    ran = {name: cost["seconds"] for name, cost in costs.items() if cost["seconds"] >= _LONG and name != "total"}
    elsewhere = {name for name in {*others, *ran} if "[/" in name}  # for a path of one machine
    kept = {name: seconds for name, seconds in {**others, **ran}.items() if name not in elsewhere}
    longest = dict(sorted(kept.items(), key=lambda one: -one[1]))
    RECORDED.write_text(json.dumps(longest, indent=0, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    renew(Path(sys.argv[1]))
