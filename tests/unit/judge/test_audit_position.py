"""How far the audit has been read: each entry is told once, in whatever order the transactions commit."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from resumed.judge import audit_position
from resumed.judge.audit_position import AuditPosition

STEPS = st.lists(st.tuples(st.sampled_from(["begin", "write", "commit", "rollback", "ask", "read"]), st.integers(0, 9)))


@dataclass
class Table:
    """The audit as Postgres shows it: ids are given out at once, rows appear at the commit."""

    visible: set[int] = field(default_factory=set)
    open: dict[str, set[int]] = field(default_factory=dict)
    last: int = 0
    begun: int = 0

    def step(self, what: str, which: int) -> None:
        writers = sorted(self.open)
        if what == "begin":
            self.begun += 1
            self.open[f"3/{self.begun}"] = set()
        elif not writers:
            return
        elif what == "write":
            self.last += 1
            self.open[writers[which % len(writers)]].add(self.last)
        else:
            ids = self.open.pop(writers[which % len(writers)])
            self.visible |= ids if what == "commit" else set()


@dataclass
class Reader:
    """What the daemon does at each look: it asks for the writers, and a while later it reads."""

    table: Table
    position: AuditPosition
    told: list[int] = field(default_factory=list)

    def ask(self) -> None:
        if self.position.awaits_writers:
            self.position.see_writers(set(self.table.open))

    def read(self) -> None:
        self.told += self.position.take({one for one in self.table.visible if one > self.position.settled})

    def look(self) -> None:
        self.ask()
        self.read()


def begun(table: Table, rows: int = 1000) -> Reader:
    newest = sorted(table.visible, reverse=True)[:rows]
    return Reader(table, AuditPosition.behind(newest, rows))


@given(before=STEPS, after=STEPS)
def test_every_entry_is_told_once_however_late_it_is_committed(
    before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    table = Table()
    for what, which in before:
        if what not in ("ask", "read"):
            table.step(what, which)
    old = set(table.visible)
    reader = begun(table)
    for what, which in after:
        if what == "ask":
            reader.look()
        elif what == "read":  # the transactions go on between the question and the read
            reader.ask()
            table.step("write", which)
            table.step("commit", which)
            reader.read()
        else:
            table.step(what, which)
    for _ in range(len(table.open)):
        table.step("commit", 0)
    for _ in range(3):
        reader.look()
    assert sorted(reader.told) == sorted(table.visible - old)
    assert not reader.position.known
    assert reader.position.settled == max(table.visible, default=reader.position.settled)


def test_a_writer_that_never_ends_holds_up_nothing_but_what_is_kept_of_the_rest() -> None:
    table = Table()
    table.step("begin", 0)
    table.step("write", 0)
    reader = begun(table)
    for _ in range(5):
        table.step("begin", 0)
        table.step("write", 1)
        table.step("commit", 1)
        reader.look()
    assert reader.told == [2, 3, 4, 5, 6]
    assert reader.position.settled == 0
    table.step("commit", 0)
    reader.look()
    assert reader.told[-1] == 1


def test_what_is_kept_for_a_writer_that_never_ends_is_bounded() -> None:
    reader = begun(Table(open={"3/1": {1}}, last=1, begun=1))
    for first in range(2, 6):
        reader.ask()
        most = audit_position.MOST_KNOWN
        reader.told += reader.position.take(range(first * most, (first + 1) * most))
    assert len(reader.position.known) <= 2 * audit_position.MOST_KNOWN
    assert len(reader.told) == 4 * audit_position.MOST_KNOWN


def test_of_a_long_audit_only_the_newest_entries_are_looked_at_to_begin_with() -> None:
    reader = begun(Table(visible=set(range(1, 500)), last=499), rows=100)
    assert reader.position.settled == 399
    reader.look()
    assert reader.told == []
