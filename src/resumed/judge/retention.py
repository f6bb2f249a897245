"""Which threads may be pruned, and by which policy: what a workflow asks for, else the settings. Reads no table."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from resumed.judge.verdict import ANY_CHANNEL, Circumstances, ThreadSnapshot, quiet_since
from resumed.model import Judgement, PruneStrategy, Refusal, Registration, State, Verdict

DEFAULT_RETAIN = timedelta(days=30)
_ASKED_OF_THE_GRAPH = (Verdict.EXPIRED, Verdict.STOPPED, Verdict.FAILED, Verdict.EDITED)


@dataclass(frozen=True, slots=True)
class PrunePolicy:
    """What becomes of a workflow's finished threads, and how long after their last sign of life."""

    workflow: str
    strategy: PruneStrategy
    retain: timedelta


@dataclass(frozen=True, slots=True)
class PolicyGroup:
    """The policies that share a length of time, by workflow; one look finds the threads of all of them."""

    retain: timedelta
    policies: Mapping[str, PrunePolicy]

    @property
    def key(self) -> str:
        """Return a name for this set of policies: where one changes, the look begins at the oldest thread again."""
        lines = [f"{name}={policy.strategy}" for name, policy in sorted(self.policies.items())]
        digest = hashlib.sha256("\n".join(lines).encode(errors="surrogatepass")).hexdigest()[:32]
        return f"{self.retain.total_seconds():.0f}s {digest}"


def policy_of(registration: Registration, older_than: timedelta | None, strategy: PruneStrategy) -> PrunePolicy | None:
    """Return the policy of a workflow: its own, else that of the settings; None where neither names one."""
    if registration.retention is not None:
        retain = registration.retain or older_than or DEFAULT_RETAIN
        return PrunePolicy(registration.name, registration.retention, retain)
    return PrunePolicy(registration.name, strategy, older_than) if older_than is not None else None


def grouped_policies(policies: Iterable[PrunePolicy]) -> list[PolicyGroup]:
    """Group policies by their length of time, the shortest first."""
    found: dict[timedelta, dict[str, PrunePolicy]] = {}
    for policy in policies:
        found.setdefault(policy.retain, {})[policy.workflow] = policy
    return [PolicyGroup(retain, found[retain]) for retain in sorted(found)]


def needs_graph_to_prune(snapshot: ThreadSnapshot, circumstances: Circumstances) -> bool:
    """Return whether rows alone cannot tell that nothing is left to run."""
    unknown = any(ANY_CHANNEL in one.triggers for one in circumstances.match.registrations)
    return snapshot.head.updated_channels is None or unknown


def prune_refusal(
    snapshot: ThreadSnapshot, circumstances: Circumstances, judgement: Judgement, retain: timedelta
) -> Refusal | None:
    """Return what forbids to prune a thread, as far as rows can tell; None where the graph at most is still asked."""
    head, known = snapshot.head, circumstances.known
    if circumstances.lock_held:
        return Refusal.LOCKED
    if head.run is not None or head.unapplied:
        return Refusal.OPEN_RUN
    if known is not None and known.state is not State.CLOSED:
        return Refusal.OPEN_CASE
    if head.edited_inside:
        return Refusal.EDITED
    silence = max(retain, circumstances.ages.min_age)
    if quiet_since(snapshot, circumstances) + silence > circumstances.now:
        return Refusal.RECENT
    if judgement.verdict is Verdict.FINISHED:
        return None
    asked = judgement.verdict in _ASKED_OF_THE_GRAPH and needs_graph_to_prune(snapshot, circumstances)
    return None if asked else Refusal.UNFINISHED
