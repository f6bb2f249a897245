-- Our record of unfinished threads.

-- name: of_threads
select thread_id, workflow, version, verdict, reason, state, head, fingerprint, last_activity_at, first_seen_at,
    changed_at, due_at, next_look_at, attempts, consecutive, refused_by, own_head, quarantine_reason, revision
from resumed.cases
where thread_id = any (%(threads)s::text[])

-- name: to_look_at
-- Cases whose look is due, oldest look first.
select thread_id from resumed.cases
where next_look_at <= %(now)s::timestamptz
order by next_look_at, thread_id
limit %(rows)s::int

-- name: open_threads
-- Threads with an open case, oldest first.
select thread_id from resumed.cases where state <> 'closed' order by first_seen_at, thread_id

-- name: listing
-- Open cases for a person to read.
select thread_id, workflow, version, verdict, reason, state, head, fingerprint, last_activity_at, first_seen_at,
    changed_at, due_at, next_look_at, attempts, consecutive, refused_by, own_head, quarantine_reason, revision
from resumed.cases
where state <> 'closed' and (%(state)s::text is null or state = %(state)s::text)
order by first_seen_at, thread_id

-- name: record
-- What a look found. Written only over the case as that look saw it: whoever wrote since knows better.
insert into resumed.cases (thread_id, workflow, version, verdict, reason, state, head, fingerprint, last_activity_at,
    first_seen_at, changed_at, due_at, next_look_at, consecutive, refused_by, quarantine_reason)
values (%(thread_id)s::text, %(workflow)s::text, %(version)s::text, %(verdict)s::text, %(reason)s::text,
    %(state)s::text, %(head)s::text, %(fingerprint)s::text, %(last_activity_at)s::timestamptz,
    %(first_seen_at)s::timestamptz, %(changed_at)s::timestamptz, %(due_at)s::timestamptz,
    %(next_look_at)s::timestamptz, 0, '{}', %(quarantine_reason)s::text)
on conflict (thread_id) do update set workflow = excluded.workflow, version = excluded.version,
    verdict = excluded.verdict, reason = excluded.reason, state = excluded.state, head = excluded.head,
    fingerprint = excluded.fingerprint, last_activity_at = excluded.last_activity_at,
    first_seen_at = excluded.first_seen_at, changed_at = excluded.changed_at, due_at = excluded.due_at,
    next_look_at = excluded.next_look_at, quarantine_reason = excluded.quarantine_reason,
    attempts = case when %(anew)s::boolean then 0 else cases.attempts end,
    consecutive = case when cases.head = excluded.head then cases.consecutive else 0 end,
    refused_by = case when cases.head = excluded.head and cases.fingerprint = excluded.fingerprint
        then cases.refused_by else '{}' end,
    revision = cases.revision + 1, updated_at = clock_timestamp()
where cases.revision = %(revision)s::int

-- name: claim
-- Hand out due cases that this replica has the code for, oldest first. The claim is a hint that keeps replicas apart.
with mine as (
    select * from unnest(%(workflows)s::text[], %(versions)s::text[], %(accepted)s::text[]) as m (workflow, version, accepted)
), picked as (
    select c.thread_id from resumed.cases c
    where c.state in ('due', 'backoff') and c.due_at <= clock_timestamp()
    and (c.claimed_until is null or c.claimed_until < clock_timestamp())
    and exists (
        select from mine m
        where m.workflow = c.workflow and not m.version = any (c.refused_by)
        and (c.version is null or m.version = '' or m.accepted = c.version)
    )
    order by c.due_at, c.thread_id
    limit %(rows)s::int
    for update skip locked
)
update resumed.cases c
set claimed_until = clock_timestamp() + interval '30 seconds', claimed_by = %(claimant)s::text
from picked
where c.thread_id = picked.thread_id
returning c.thread_id, c.workflow, c.version, c.due_at

-- name: unclaim
-- Give back what was claimed and not tried.
update resumed.cases set claimed_until = null, claimed_by = null
where thread_id = any (%(threads)s::text[]) and claimed_by = %(claimant)s::text

-- name: postpone
-- Not now: the lock is held elsewhere, or the head's time has not come.
update resumed.cases
set due_at = clock_timestamp() + %(delay)s::interval, claimed_until = null, claimed_by = null,
    revision = revision + 1, updated_at = clock_timestamp()
where thread_id = %(thread)s::text and state in ('due', 'backoff')

-- name: settle
-- What a look under the thread's lock said, or where an attempt left the case.
update resumed.cases
set verdict = %(verdict)s::text, reason = %(reason)s::text, state = %(state)s::text, head = %(head)s::text,
    fingerprint = %(fingerprint)s::text, last_activity_at = %(last_activity_at)s::timestamptz,
    changed_at = case when head = %(head)s::text then changed_at end,
    due_at = %(due_at)s::timestamptz, next_look_at = %(next_look_at)s::timestamptz,
    consecutive = coalesce(%(consecutive)s::int, consecutive),
    refused_by = case
        when %(refused_by)s::text is null then refused_by
        when head = %(head)s::text and fingerprint = %(fingerprint)s::text and not refused_by @> array[%(refused_by)s::text]
            then refused_by || %(refused_by)s::text
        else array[%(refused_by)s::text] end,
    own_head = case when %(own)s::boolean then %(head)s::text else own_head end,
    quarantine_reason = %(quarantine_reason)s::text, claimed_until = null, claimed_by = null,
    revision = revision + 1, updated_at = clock_timestamp()
where thread_id = %(thread_id)s::text

-- name: begin
-- An attempt begins on this case; made here where nobody has seen the thread before.
insert into resumed.cases (thread_id, workflow, version, verdict, reason, state, head, fingerprint, last_activity_at,
    first_seen_at, attempts)
values (%(thread_id)s::text, %(workflow)s::text, %(version)s::text, %(verdict)s::text, %(reason)s::text, 'running',
    %(head)s::text, %(fingerprint)s::text, %(last_activity_at)s::timestamptz, clock_timestamp(), 1)
on conflict (thread_id) do update set state = 'running', verdict = excluded.verdict, reason = excluded.reason,
    head = excluded.head, fingerprint = excluded.fingerprint, due_at = null, next_look_at = null,
    attempts = cases.attempts + 1, revision = cases.revision + 1, updated_at = clock_timestamp()
returning attempts, consecutive
