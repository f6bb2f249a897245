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
from unnest(%(threads)s::text[]) as t (thread_id)
where resumed.lock_key(t.thread_id) in (select key from held)

-- name: try_lock
-- Take the lock for as long as the session lives, or say that it is taken.
select pg_try_advisory_lock(%(key)s::bigint) as locked, clock_timestamp() as now

-- name: unlock
select pg_advisory_unlock(%(key)s::bigint) as unlocked

-- name: try_lock_for_transaction
select pg_try_advisory_xact_lock(%(key)s::bigint) as locked

-- name: visible
-- Whether a lock on this key is on show, for the self-test.
select exists (
    select from pg_locks l
    where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
    and ((l.classid::bigint << 32) | l.objid::bigint) = %(key)s::bigint
) as visible

-- name: backend
select pg_backend_pid() as pid, pg_is_in_recovery() as standby
