"""Readiness: every blocker stands until it is removed, and each change is reported once."""

from resumed.daemon.readiness import Blocker, Readiness


def test_it_is_ready_while_nothing_blocks_it_and_every_change_is_reported_once() -> None:
    told: list[tuple[bool, str]] = []
    readiness = Readiness(lambda ready, reason: told.append((ready, reason)), {Blocker.WORKERS: "none yet"})
    readiness.unblock(Blocker.WORKERS)
    readiness.unblock(Blocker.WORKERS)
    readiness.block(Blocker.SWEEP, "down")
    readiness.block(Blocker.SWEEP, "down")
    readiness.block(Blocker.RECOVERY, "down as well")
    readiness.unblock(Blocker.SWEEP)
    assert not readiness.is_ready
    readiness.unblock(Blocker.RECOVERY)
    assert told == [(True, ""), (False, "down"), (False, "down as well"), (True, "")]


def test_attempts_go_on_where_only_handing_out_announcing_or_applying_has_failed() -> None:
    for blocker in Blocker:
        readiness = Readiness(lambda *_: None, {blocker: "why"})
        little = blocker in (Blocker.DISPATCH, Blocker.STOP_REQUESTS, Blocker.ANNOUNCEMENT)
        assert readiness.allows_attempts is little
        assert readiness.is_database_to_blame is (blocker not in (Blocker.WORKERS, Blocker.CLOCK))
