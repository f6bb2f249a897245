-- Counts and sizes for `doctor`, `survey` and the gauges. Reads only.

-- name: open_cases
-- Open cases by workflow, state and verdict: the same numbers on every replica.
select coalesce(workflow, '') as workflow, state, verdict, count(*)::int as threads,
    count(*) filter (where state in ('due', 'backoff') and due_at <= clock_timestamp())::int as due,
    min(last_activity_at) as oldest_at, count(*) filter (where suspect)::int as suspects
from resumed.cases
where state <> 'closed'
group by 1, 2, 3

-- name: server
-- Which Postgres it is, whether it takes writes, how long it has been up.
select current_setting('server_version') as version, pg_is_in_recovery() as standby,
    current_setting('default_transaction_read_only')::boolean as read_only,
    current_setting('server_encoding') as encoding,
    clock_timestamp() - pg_postmaster_start_time() as uptime

-- name: connections
-- How many sessions an ordinary role could have in all, and how many there are.
select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int as allowed,
    (select count(*)::int from pg_stat_activity where backend_type = 'client backend') as used

-- name: lock_table
-- The lock table is one for the whole server: when it is full, every session of it gets "out of shared memory".
select current_setting('max_locks_per_transaction')::int
        * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int) as size,
    (select count(*)::int from pg_locks where not fastpath) as used

-- name: newest_checkpoint
select checkpoint_id from checkpoints
where checkpoint_id < %(highest)s::text order by checkpoint_id desc limit 1

-- name: recent_threads
-- Threads with the newest checkpoints, to learn from.
select thread_id from (
    select thread_id, checkpoint_id from checkpoints order by checkpoint_id desc limit %(rows)s::int
) as newest
group by thread_id
order by max(checkpoint_id) desc

-- name: steps
-- The root checkpoints of these threads in their order, each with whether a person or an error stood between it and
-- the next one; at most so many, or all of them.
select c.thread_id, c.checkpoint_id, left(c.metadata ->> 'source', 20) as source,
    c.metadata ->> 'attempt' is not null as ours,
    exists (
        select from checkpoint_writes w
        where w.thread_id = c.thread_id and w.checkpoint_ns = '' and w.checkpoint_id = c.checkpoint_id
        and w.channel in ('__interrupt__', '__resume__', '__error__')
    ) as stood
from checkpoints c
where c.thread_id = any (%(threads)s::text[]) and c.checkpoint_ns = ''
order by c.thread_id, c.checkpoint_id
limit %(rows)s::int
