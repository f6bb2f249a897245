-- What is deleted of our own tables, and of LangGraph's where a policy asks for it. Values are measured, never read.

-- name: old_cases
-- Closed cases. One whose head tells no time stays while its thread does: it alone says when that was first seen.
select c.thread_id from resumed.cases c
where c.state = 'closed' and c.updated_at < %(before)s::timestamptz
and (
    c.head = '' or c.head ~ '^[0-9a-f]{8}-[0-9a-f]{4}-6[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$'
    or not exists (select from checkpoints k where k.thread_id = c.thread_id)
)
order by c.updated_at
limit %(rows)s::int

-- name: old_runs
-- Runs that have ended. The id of one that was submitted keeps the same id from being submitted again, for as long as
-- its thread is there.
select r.run_id from resumed.runs r
where r.ended_at < %(before)s::timestamptz
and not exists (select from resumed.cases c where c.thread_id = r.thread_id and c.state <> 'closed')
and not (r.submitted and exists (select from checkpoints k where k.thread_id = r.thread_id))
order by r.ended_at
limit %(rows)s::int

-- name: forget_cases
select resumed.forget_cases_v1(%(ids)s::text[], %(before)s::timestamptz) as rows

-- name: forget_attempts
select resumed.forget_attempts_v1(%(before)s::timestamptz, %(rows)s::int) as rows

-- name: forget_runs
select resumed.forget_runs_v1(%(ids)s::text[], %(before)s::timestamptz) as rows

-- name: forget_versions
select resumed.forget_versions_v1(%(before)s::timestamptz) as rows

-- name: forget_audit
select resumed.forget_audit_v1(%(before)s::timestamptz, %(rows)s::int) as rows

-- name: forget_unwanted
select resumed.forget_unwanted_v1(%(rows)s::int) as rows

-- name: forget_marks
select resumed.forget_marks_v1(%(threads)s::text[]) as rows

-- name: missing_rights
-- Those of LangGraph's tables from which the current role may not delete.
select t.name from unnest(array['checkpoints', 'checkpoint_blobs', 'checkpoint_writes']) as t (name)
where to_regclass(t.name) is not null and not has_table_privilege(to_regclass(t.name), 'delete')
order by t.name

-- name: position
select checkpoint_id, thread_id, cycle_at from resumed.prune_positions where policies = %(policies)s::text

-- name: move
-- A cycle that begins has the empty position; threads whose ids tell no time come first, under an empty checkpoint.
insert into resumed.prune_positions as p (policies, checkpoint_id, thread_id)
values (%(policies)s::text, %(checkpoint_id)s::text, %(thread_id)s::text)
on conflict (policies) do update set checkpoint_id = excluded.checkpoint_id, thread_id = excluded.thread_id,
    cycle_at = case when (excluded.checkpoint_id, excluded.thread_id) = ('', '') then clock_timestamp()
        else p.cycle_at end,
    updated_at = clock_timestamp()

-- name: page
-- The next checkpoints of all namespaces in the order of their ids, and of each thread whether its newest checkpoint of
-- all is among them. `|| ''` keeps the planner from walking the index on checkpoint_id through other threads' rows.
with page as materialized (
    select c.checkpoint_id, c.thread_id from checkpoints c
    where c.checkpoint_id >= %(after)s::text and (c.checkpoint_id, c.thread_id) > (%(after)s::text, %(thread)s::text)
    and c.checkpoint_id < %(upper)s::text
    order by c.checkpoint_id, c.thread_id
    limit %(rows)s::int
), newest as (
    select page.thread_id, max(page.checkpoint_id) as checkpoint_id from page group by page.thread_id
)
select n.checkpoint_id, n.thread_id, (select count(*)::int from page) as rows, not exists (
    select from checkpoints later where later.thread_id = n.thread_id and later.checkpoint_id || '' > n.checkpoint_id
) as ends
from newest n
order by n.checkpoint_id, n.thread_id

-- name: timeless
-- Threads whose head tells no time and was first seen before the cut: the page shows them in no order of time.
select c.thread_id from resumed.cases c
where c.state = 'closed' and c.head_seen_at < %(cut)s::timestamptz and c.head <> '' and c.thread_id > %(after)s::text
and c.head !~ '^[0-9a-f]{8}-[0-9a-f]{4}-6[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$'
and exists (select from checkpoints k where k.thread_id = c.thread_id)
order by c.thread_id
limit %(rows)s::int

-- name: prunable
-- Of these threads those with more than one checkpoint in a namespace: the others are pruned already.
select t.thread_id from unnest(%(threads)s::text[]) as t (thread_id)
where exists (
    select from checkpoints c where c.thread_id = t.thread_id group by c.checkpoint_ns having count(*) > 1
)

-- name: snapshot
set transaction isolation level repeatable read

-- name: size
-- The rows of a thread and the bytes of their values as they are stored.
select (c.rows + b.rows + w.rows)::bigint as rows, (c.bytes + b.bytes + w.bytes)::bigint as bytes
from (
    select count(*) as rows, coalesce(sum(pg_column_size(checkpoint) + pg_column_size(metadata)), 0) as bytes
    from checkpoints where thread_id = %(thread)s::text
) c, (
    select count(*) as rows, coalesce(sum(coalesce(pg_column_size(blob), 0)), 0) as bytes
    from checkpoint_blobs where thread_id = %(thread)s::text
) b, (
    select count(*) as rows, coalesce(sum(pg_column_size(blob)), 0) as bytes
    from checkpoint_writes where thread_id = %(thread)s::text
) w

-- name: delete_checkpoints
delete from checkpoints where thread_id = %(thread)s::text

-- name: delete_blobs
delete from checkpoint_blobs where thread_id = %(thread)s::text

-- name: delete_writes
delete from checkpoint_writes where thread_id = %(thread)s::text

-- name: still_there
-- Whether the thread has any row, seen by a snapshot of its own.
select exists (select from checkpoints where thread_id = %(thread)s::text)
    or exists (select from checkpoint_writes where thread_id = %(thread)s::text)
    or exists (select from checkpoint_blobs where thread_id = %(thread)s::text) as there

-- name: mark
insert into resumed.prune_marks (thread_id, workflow, head, newest_id, fingerprint, asked, retain)
values (%(thread_id)s::text, %(workflow)s::text, %(head)s::text, %(newest_id)s::text, %(fingerprint)s::text,
    %(asked)s::boolean, %(retain)s::interval)
on conflict (thread_id) do update set workflow = excluded.workflow, head = excluded.head,
    newest_id = excluded.newest_id, fingerprint = excluded.fingerprint, asked = excluded.asked,
    retain = excluded.retain, marked_at = clock_timestamp(), deleted_at = null

-- name: marked
-- Of these threads those that are marked and not deleted.
select thread_id from resumed.prune_marks where thread_id = any (%(threads)s::text[]) and deleted_at is null

-- name: ripe
-- Marks that are older than this, of these workflows, the oldest first.
select thread_id, workflow, head, newest_id, fingerprint, asked, retain, marked_at from resumed.prune_marks
where deleted_at is null and marked_at < %(before)s::timestamptz and workflow = any (%(workflows)s::text[])
order by marked_at, thread_id
limit %(rows)s::int

-- name: deleted
update resumed.prune_marks set deleted_at = clock_timestamp() where thread_id = %(thread)s::text

-- name: raced
-- Threads that were deleted and have a root checkpoint again whose parent is gone: a run that had loaded the thread
-- before saved on top of what it knew. A thread that was begun again has no parent at its first checkpoint.
select m.thread_id, m.workflow from resumed.prune_marks m
where m.deleted_at is not null and exists (
    select from checkpoints c
    where c.thread_id = m.thread_id and c.checkpoint_ns = '' and c.parent_checkpoint_id is not null
    and not exists (
        select from checkpoints p
        where p.thread_id = c.thread_id and p.checkpoint_ns = '' and p.checkpoint_id = c.parent_checkpoint_id
    )
)
limit %(rows)s::int
