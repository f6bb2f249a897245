-- Registered runs. An application's run is written through the session that holds its thread's lock.

-- name: begin
select said, head from resumed.begin_run_v1(%(key)s::bigint, %(run_id)s::text, %(thread_id)s::text, %(workflow)s::text,
    %(version)s::text, %(owner)s::text, %(input_type)s::text, %(input)s::bytea, %(call)s::jsonb, %(rows_before)s::text)

-- name: regain
select said, head from resumed.regain_run_v1(%(key)s::bigint, %(run_id)s::text, %(thread_id)s::text)

-- name: release
select resumed.end_run_v1(%(key)s::bigint, %(run_id)s::text, %(state)s::text) as unlocked

-- name: submit
-- For the daemon to begin. No row comes back where the thread was submitted before, or has a run that has not ended.
insert into resumed.runs (run_id, thread_id, workflow, version, state, submitted, input_type, input, call, owner)
values (%(run_id)s::text, %(thread_id)s::text, %(workflow)s::text, %(version)s::text, 'submitted', true,
    %(input_type)s::text, %(input)s::bytea, %(call)s::jsonb, %(owner)s::text)
on conflict do nothing
returning run_id

-- name: was_submitted
select from resumed.runs where thread_id = %(thread)s::text and submitted

-- name: unended
-- The runs of these threads that have not ended; never their input.
select r.thread_id, r.run_id, r.workflow, r.version, r.state, r.head_before, r.rows_before, r.begun_at,
    r.input_type is not null as has_input
from resumed.runs r
where r.thread_id = any (%(threads)s::text[]) and r.ended_at is null

-- name: input
select input_type, input, call from resumed.runs where run_id = %(run_id)s::text

-- name: options
-- How the application called the graph, where the run says so; a run that has ended still says it. One that failed may
-- have done so because a node cannot be called that way.
select case when state = 'failed' then (call -> %(name)s::text) - 'face' else call -> %(name)s::text end as options
from resumed.runs
where run_id = %(run_id)s::text and thread_id = %(thread)s::text

-- name: abandoned
-- Threads of runs that no attempt has taken and whose lock is free, where no case has a due time or a next look yet:
-- a page of them, in the order of their ids, by the index of runs that have not ended.
with held as materialized (
    -- include: held_keys
)
select r.thread_id
from resumed.runs r
left join resumed.cases c on c.thread_id = r.thread_id
where r.ended_at is null and r.state in ('open', 'submitted') and r.thread_id > %(after)s::text
and (c.thread_id is null or c.state in ('closed', 'running') or c.updated_at < r.begun_at)
and resumed.lock_key(r.thread_id) not in (select key from held)
order by r.thread_id
limit %(rows)s::int

-- name: end
-- Its input is no longer needed.
update resumed.runs set state = %(state)s::text, ended_at = clock_timestamp(), input_type = null, input = null
where run_id = %(run_id)s::text and ended_at is null

-- name: cancel
update resumed.runs set state = 'cancelled', ended_at = clock_timestamp(), input_type = null, input = null
where thread_id = %(thread)s::text and ended_at is null
returning run_id

-- name: lost
-- Which of these are not their application's any more: cancelled, or continued by a daemon.
select run_id, state from resumed.runs
where run_id = any (%(runs)s::text[]) and (taken or state = 'cancelled')

-- name: cancel_head
-- A cancelled run has stopped on this head, which is never resumed.
insert into resumed.cases (thread_id, workflow, verdict, reason, state, head, fingerprint, last_activity_at,
    first_seen_at, next_look_at, cancelled_head)
values (%(thread)s::text, %(workflow)s::text, 'cancelled', 'the application cancelled it', 'held', %(head)s::text, '',
    clock_timestamp(), clock_timestamp(), clock_timestamp(), %(head)s::text)
on conflict (thread_id) do update set cancelled_head = excluded.cancelled_head, head = excluded.head,
    verdict = excluded.verdict, reason = excluded.reason, state = excluded.state, fingerprint = '', due_at = null,
    next_look_at = excluded.next_look_at, revision = cases.revision + 1, updated_at = clock_timestamp()

-- name: identity
-- Which database of which server this is, and which tables it would name.
select d.oid::text as database, pg_postmaster_start_time()::text as server,
    to_regclass('checkpoints')::oid::text as place
from pg_database d where d.datname = current_database()

-- name: adopt
-- Continue in this process a run that had died; what was only submitted begins now, on the rows of this moment.
update resumed.runs
set head_before = case when state = 'submitted' then %(head)s::text else head_before end,
    rows_before = case when state = 'submitted' then %(rows_before)s::text else rows_before end, state = 'open',
    taken = false, owner = %(owner)s::text, call = (call - %(name)s::text) || %(call)s::jsonb
where run_id = %(run_id)s::text and ended_at is null

-- name: has_table
-- Whether anything can be registered in this database at all.
select to_regclass('resumed.runs') is not null as has_table
