-- Attempts: inserted and closed through the session that holds the thread's lock.

-- name: begin
-- The case is written, the attempt gets its number, and from now on the thread's run is the daemon's: what was
-- submitted begins on the head of this moment; an input that was applied is no longer needed. Nothing is written, and no
-- row comes back, where the case was written since, or its workflow or every one is paused.
with written as (
    -- include: case_row
    where not exists (select from resumed.pauses p where p.paused and p.workflow in (%(workflow)s::text, ''))
    -- include: over_its_revision
), taken as (
    update resumed.runs
    set head_before = case when state = 'submitted' then %(before)s::text else head_before end,
        rows_before = case when state = 'submitted' then %(rows_before)s::text else rows_before end, state = 'taken',
        taken = true,
        input_type = case when state = 'submitted' or head_before = %(before)s::text then input_type end,
        input = case when state = 'submitted' or head_before = %(before)s::text then input end
    where thread_id = %(thread_id)s::text and ended_at is null and exists (select from written)
)
insert into resumed.attempts (thread_id, attempt, workflow, version, worker, started_at, before)
select thread_id, coalesce((select max(attempt) from resumed.attempts where thread_id = %(thread_id)s::text), 0) + 1,
    %(attempt_workflow)s::text, %(attempt_version)s::text, %(worker)s::text, clock_timestamp(), %(before)s::text
from written
returning attempt, started_at

-- name: finish
-- Assumes that the attempt is still open; returns no row where it was closed before.
-- include: attempt_end
where thread_id = %(thread_id)s::text and attempt = %(attempt)s::int and finished_at is null
returning
-- include: attempt_columns

-- name: conclude
-- As `finish`, with the case and the end of the thread's run: all of it or nothing. `is_open` comes back as false where
-- the attempt was closed before, the columns of the attempt as null where nothing was written.
with still_open as materialized (
    select from resumed.attempts
    where thread_id = %(thread_id)s::text and attempt = %(attempt)s::int and finished_at is null
    for update
), written as (
    -- include: case_row
    where exists (select from still_open)
    -- include: over_its_revision
), ended as (
    update resumed.runs set state = %(run_state)s::text, ended_at = clock_timestamp(), input_type = null, input = null
    where run_id = %(run_id)s::text and ended_at is null and exists (select from written)
), finished as (
    -- include: attempt_end
    where thread_id = %(thread_id)s::text and attempt = %(attempt)s::int and exists (select from written)
    returning
    -- include: attempt_columns
)
select exists (select from still_open) as is_open, finished.*
from (values (true)) as one (row) left join finished on true

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

-- name: origins
-- What the spans of attempts link to: when the previous attempt began, and the trace context that the application's call
-- left. That is in the run whose input was still to be applied, else in the checkpoint that the attempt itself saved
-- last, which repeats it, else in the one that it began on.
select a.thread_id, a.attempt, previous.started_at as previous_at,
    left(call.metadata ->> 'traceparent', 200) as traceparent, left(call.metadata ->> 'tracestate', 512) as tracestate
from unnest(%(threads)s::text[], %(attempts)s::int[], %(before)s::text[], %(after)s::text[])
    as a (thread_id, attempt, before, after)
left join resumed.attempts previous on previous.thread_id = a.thread_id and previous.attempt = a.attempt - 1
left join resumed.runs run
    on run.thread_id = a.thread_id and run.ended_at is null and run.head_before = a.before
left join checkpoints own
    on own.thread_id = a.thread_id and own.checkpoint_ns = '' and own.checkpoint_id = a.after
    and own.metadata ->> 'attempt' = a.attempt::text
left join checkpoints begun
    on begun.thread_id = a.thread_id and begun.checkpoint_ns = '' and begun.checkpoint_id = a.before
cross join lateral (
    select case when own.thread_id is not null then own.metadata when run.run_id is not null then run.call
        else begun.metadata end as metadata
) call
