"""The limits of a policy as the settings' defaults make them."""

from datetime import timedelta

from resumed.model import PolicyLimits

DEFAULT_LIMITS = PolicyLimits(
    min_age=timedelta(minutes=5),
    max_age=timedelta(hours=24),
    max_attempts=5,
    max_total_attempts=50,
    retry_base=timedelta(seconds=30),
    retry_cap=timedelta(hours=1),
    timeout=timedelta(minutes=15),
    concurrency=16,
)
