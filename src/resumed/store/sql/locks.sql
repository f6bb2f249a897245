-- Advisory locks of threads. Looking is reading pg_locks: a try-lock could make an application's start fail.

-- name: held
-- Which of these threads' locks somebody holds, in this database.
with held as materialized (
    select (l.classid::bigint << 32) | l.objid::bigint as key
    from pg_locks l
    where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
)
select t.thread_id
from unnest(%(threads)s::text[], %(keys)s::bigint[]) as t (thread_id, key)
where t.key in (select key from held)

-- name: try_lock
-- Take the lock for as long as the session lives, or say that it is taken.
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
select exists (
    select from pg_locks l
    where l.locktype = 'advisory' and l.objsubid = 1 and l.granted and l.pid = pg_backend_pid()
    and ((l.classid::bigint << 32) | l.objid::bigint) = %(key)s::bigint
) as own

-- name: visible
-- Whether a lock on this key is on show, for the self-test.
select exists (
    select from pg_locks l
    where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
    and ((l.classid::bigint << 32) | l.objid::bigint) = %(key)s::bigint
) as visible

-- name: backend
select pg_backend_pid() as pid, pg_is_in_recovery() as standby
