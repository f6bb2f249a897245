-- The workflow versions that the replicas' workers have.

-- name: announce
-- The hello of a worker, and its renewal.
insert into resumed.workflows (name, version, accepts, triggers, min_age, max_age, max_attempts, max_total_attempts,
    retry_base, retry_cap, timeout, concurrency, retention, retain, seen_at)
values (%(name)s::text, %(version)s::text, %(accepts)s::text[], %(triggers)s::text[], %(min_age)s::interval,
    %(max_age)s::interval, %(max_attempts)s::int, %(max_total_attempts)s::int, %(retry_base)s::interval,
    %(retry_cap)s::interval, %(timeout)s::interval, %(concurrency)s::int, %(retention)s::text, %(retain)s::interval,
    clock_timestamp())
on conflict (name, version) do update set accepts = excluded.accepts, triggers = excluded.triggers,
    min_age = excluded.min_age, max_age = excluded.max_age, max_attempts = excluded.max_attempts,
    max_total_attempts = excluded.max_total_attempts, retry_base = excluded.retry_base,
    retry_cap = excluded.retry_cap, timeout = excluded.timeout, concurrency = excluded.concurrency,
    retention = excluded.retention, retain = excluded.retain, seen_at = excluded.seen_at

-- name: all
-- Every version that was seen in the last thirty days: an application that is down for a night is not forgotten.
select name, version, accepts, triggers, min_age, max_age, max_attempts, max_total_attempts, retry_base, retry_cap,
    timeout, concurrency, retention, retain, seen_at
from resumed.workflows
where seen_at > clock_timestamp() - interval '30 days'
