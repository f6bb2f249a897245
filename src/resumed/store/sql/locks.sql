-- Advisory locks of threads. Whether one is held is read from pg_locks: a try-lock could make an
-- application's start fail.

-- name: held
-- Which of these threads' locks are held, in this database.
with held as materialized (
    -- include: held_keys
)
select t.thread_id
from unnest(%(threads)s::text[], %(keys)s::bigint[]) as t (thread_id, key)
where t.key in (select key from held)

-- name: try_lock
-- Takes the lock for as long as the session lives, if it is free.
select pg_try_advisory_lock(%(key)s::bigint) as locked, clock_timestamp() as now

-- name: unlock
select pg_advisory_unlock(%(key)s::bigint) as unlocked

-- name: try_lock_for_transaction
select pg_try_advisory_xact_lock(%(key)s::bigint) as locked

-- name: wait
-- Wait for a lock; the session's lock_timeout says how long.
select pg_advisory_lock(%(key)s::bigint)

-- name: patience
select set_config('lock_timeout', %(lock_timeout)s::text, false)

-- name: own
-- Whether this very session holds the lock.
with held as (
    -- include: held_keys
)
select exists (select from held where pid = pg_backend_pid() and key = %(key)s::bigint) as own

-- name: visible
-- Whether a lock on this key is on show, for the self-test.
with held as (
    -- include: held_keys
)
select exists (select from held where key = %(key)s::bigint) as visible

-- name: backend
select pg_backend_pid() as pid, pg_is_in_recovery() as standby
