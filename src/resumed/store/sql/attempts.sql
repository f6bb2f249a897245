-- Attempts: inserted and closed through the session that holds the thread's lock.

-- name: start
insert into resumed.attempts (thread_id, attempt, workflow, version, worker, started_at, before)
select %(thread_id)s::text, coalesce(max(attempt), 0) + 1, %(workflow)s::text, %(version)s::text, %(worker)s::text,
    clock_timestamp(), %(before)s::text
from resumed.attempts
where thread_id = %(thread_id)s::text
returning attempt, started_at

-- name: finish
-- Assumes that the attempt is still open; returns no row where it was closed before.
update resumed.attempts
set finished_at = clock_timestamp(), closed_by = %(closed_by)s::text, outcome = %(outcome)s::text,
    advanced = %(advanced)s::boolean,
    charged = %(charged)s::boolean, after = %(after)s::text, error_type = %(error_type)s::text,
    error_at = %(error_at)s::text, error = %(error)s::text
where thread_id = %(thread_id)s::text and attempt = %(attempt)s::int and finished_at is null
returning
-- include: attempt_columns

-- name: open
-- The attempt that was left open on a thread.
select
-- include: attempt_columns
from resumed.attempts
where thread_id = %(thread)s::text and finished_at is null

-- name: orphans
-- Open attempts whose thread's lock is free: their process or their session is gone.
with held as materialized (
    -- include: held_keys
)
select
-- include: attempt_columns
from resumed.attempts
where finished_at is null and thread_id <> all (%(except)s::text[])
and resumed.lock_key(thread_id) not in (select key from held)
order by started_at
limit %(rows)s::int

-- name: recent
-- The last attempts of each workflow that count for its circuit, newest first.
select w.workflow, a.thread_id, a.charged, a.finished_at
from unnest(%(workflows)s::text[]) as w (workflow)
cross join lateral (
    select thread_id, charged, finished_at from resumed.attempts
    where workflow = w.workflow and (charged or outcome in ('finished', 'waiting'))
    order by finished_at desc
    limit %(rows)s::int
) as a
order by w.workflow, a.finished_at desc

-- name: open_by_workflow
select workflow, count(*)::int as open from resumed.attempts
where finished_at is null and workflow = any (%(workflows)s::text[])
group by workflow

-- name: of_thread
select
-- include: attempt_columns
from resumed.attempts
where thread_id = %(thread)s::text
order by attempt
