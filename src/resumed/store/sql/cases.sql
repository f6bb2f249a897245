-- Our record of unfinished threads.

-- name: of_threads
select
-- include: case_columns
from resumed.cases
where thread_id = any (%(threads)s::text[])

-- name: due_looks
-- Cases whose look is due, oldest look first.
select thread_id from resumed.cases
where next_look_at <= %(now)s::timestamptz
order by next_look_at, thread_id
limit %(rows)s::int

-- name: answered
-- Of the next cases that wait for a person, in the order of their ids, those whose head has got an answer: it is saved
-- under the all-zero task id, and shows in no new checkpoint where its application died before it made one.
select count(*)::int as rows, max(page.thread_id) as last_id,
    coalesce(array_agg(page.thread_id) filter (where answer.found), '{}') as threads
from (
    select thread_id, head from resumed.cases
    where state = 'held' and verdict = 'waiting' and thread_id > %(after)s::text
    order by thread_id
    limit %(rows)s::int
) as page
left join lateral (
    select true as found from checkpoint_writes w
    where w.thread_id = page.thread_id and w.checkpoint_ns = '' and w.checkpoint_id = page.head
    and w.task_id = '00000000-0000-0000-0000-000000000000' and w.channel = '__resume__'
    limit 1
) as answer on true

-- name: open
-- Open cases for a person to read.
select
-- include: case_columns
from resumed.cases
where state <> 'closed' and (%(state)s::text is null or state = %(state)s::text)
order by first_seen_at, thread_id

-- name: write
-- include: case_row
-- include: over_its_revision

-- name: write_all
-- As `write`, many at once and none of them twice; claims and pauses are left alone.
insert into resumed.cases as c (thread_id, workflow, version, verdict, reason, state, head, fingerprint,
    last_activity_at, first_seen_at, head_seen_at, changed_at, due_at, next_look_at, attempts, consecutive, refused_by,
    refusal, refusal_reason, spent_by, own_head, cancelled_head, cancel_pending, pinned, suspect, quarantine_reason,
    revision)
select w.thread_id, w.workflow, w.version, w.verdict, w.reason, w.state, w.head, w.fingerprint, w.last_activity_at,
    w.first_seen_at, w.head_seen_at, w.changed_at, w.due_at, w.next_look_at, w.attempts, w.consecutive,
    w.refused_by::text[], w.refusal, w.refusal_reason, w.spent_by::text[], w.own_head, w.cancelled_head,
    w.cancel_pending, w.pinned, w.suspect, w.quarantine_reason, w.revision
from unnest(%(thread_id)s::text[], %(workflow)s::text[], %(version)s::text[], %(verdict)s::text[], %(reason)s::text[],
    %(state)s::text[], %(head)s::text[], %(fingerprint)s::text[], %(last_activity_at)s::timestamptz[],
    %(first_seen_at)s::timestamptz[], %(head_seen_at)s::timestamptz[], %(changed_at)s::timestamptz[],
    %(due_at)s::timestamptz[], %(next_look_at)s::timestamptz[], %(attempts)s::int[], %(consecutive)s::int[],
    %(refused_by)s::text[], %(refusal)s::text[], %(refusal_reason)s::text[], %(spent_by)s::text[],
    %(own_head)s::text[], %(cancelled_head)s::text[], %(cancel_pending)s::boolean[], %(pinned)s::boolean[],
    %(suspect)s::boolean[], %(quarantine_reason)s::text[], %(revision)s::int[])
    as w (thread_id, workflow, version, verdict, reason, state, head, fingerprint, last_activity_at, first_seen_at,
    head_seen_at, changed_at, due_at, next_look_at, attempts, consecutive, refused_by, refusal, refusal_reason,
    spent_by, own_head, cancelled_head, cancel_pending, pinned, suspect, quarantine_reason, revision)
-- include: over_its_revision

-- name: claim
-- Due cases that this replica has the code and the room for, the workflows in turn, oldest first within each. The claim
-- is a hint that keeps replicas apart. Each version is looked up by itself, so that what another version has to take
-- is not walked through; code without a version takes any.
with wanted as (
    select * from unnest(%(workflows)s::text[], %(versions)s::text[], %(suspects)s::boolean[], %(rooms)s::int[])
        as w (workflow, version, suspect, room)
    where not exists (select from resumed.pauses p where p.paused and p.workflow in (w.workflow, ''))
), accepted as (
    select distinct * from unnest(%(acceptors)s::text[], %(accepted)s::text[]) as a (workflow, version)
), picked as materialized (
    select due.* from wanted w
    cross join lateral (
        select
        -- include: claimable
        order by c.due_at, c.thread_id
        limit w.room
        for update skip locked
    ) as due
    where w.version = ''
    union all
    select due.* from wanted w
    cross join lateral (
        select
        -- include: claimable
        and c.version is null
        order by c.due_at, c.thread_id
        limit w.room
        for update skip locked
    ) as due
    where w.version <> ''
    union all
    select due.* from wanted w
    join accepted a on a.workflow = w.workflow
    cross join lateral (
        select
        -- include: claimable
        and c.version = a.version
        order by c.due_at, c.thread_id
        limit w.room
        for update skip locked
    ) as due
    where w.version <> ''
), chosen as (
    select thread_id from (
        select *, row_number() over (partition by workflow, suspect order by due_at, thread_id) as place,
            row_number() over (partition by workflow order by due_at, thread_id) as turn
        from picked
    ) as ranked
    where place <= room
    order by turn, due_at, thread_id
    limit %(rows)s::int
)
update resumed.cases c
set claimed_until = clock_timestamp() + interval '30 seconds', claimed_by = %(claimant)s::text
from chosen
where c.thread_id = chosen.thread_id
returning c.thread_id, c.workflow, c.version, c.due_at

-- name: any_due
-- Whether anything of the kind is due at all, for a worker that would have to be started for it.
select from unnest(%(workflows)s::text[], %(suspects)s::boolean[]) as w (workflow, suspect)
cross join lateral (
    select from resumed.cases c
    where c.workflow = w.workflow and c.suspect = w.suspect and c.state in ('due', 'backoff')
    and c.due_at <= (select coalesce(%(due_by)s::timestamptz, clock_timestamp()))
    and (c.claimed_until is null or c.claimed_until < (select clock_timestamp()))
    order by c.due_at
    limit 1
) as due
where not exists (select from resumed.pauses p where p.paused and p.workflow in (w.workflow, ''))
limit 1

-- name: claimed
-- Which of these this claimant still has claimed.
select thread_id from resumed.cases
where thread_id = any (%(threads)s::text[]) and claimed_by = %(claimant)s::text

-- name: release_claims
update resumed.cases set claimed_until = null, claimed_by = null
where thread_id = any (%(threads)s::text[]) and claimed_by = %(claimant)s::text

-- name: postpone
-- Not now: another session holds the lock, or the head's time has not come.
update resumed.cases
set due_at = clock_timestamp() + %(delay)s::interval, claimed_until = null, claimed_by = null,
    revision = revision + 1, updated_at = clock_timestamp()
where thread_id = %(thread)s::text and state in ('due', 'backoff')
