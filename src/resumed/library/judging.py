"""Judges threads without any registration: by their rows and by the ages that the caller names."""

from datetime import datetime, timedelta

from resumed.judge.case import decide
from resumed.judge.resolve import Claim, workflow_name
from resumed.judge.verdict import Ages, Circumstances, Sighting
from resumed.model import Judgement, Numbers, Registration

_FOR_EVER = timedelta(days=36500)
NO_AGES = Ages(timedelta(0), _FOR_EVER)


def judged(found: Sighting, now: datetime, *, held: bool, ages: Ages = NO_AGES) -> Judgement:
    """Give the verdict that the rows lead to where any code would take the thread."""
    name = workflow_name(found.head, (), None) or ""
    numbers = Numbers(ages.min_age, ages.max_age, 1, 1, ages.min_age, ages.min_age, ages.max_age, 1)
    anybody = Registration(name, "", (), (), numbers, now)
    return decide(found, Circumstances(now=now, claim=Claim(name, (anybody,)), ages=ages, lock_held=held))
