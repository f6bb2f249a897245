-- Our record of unfinished threads.

-- name: of_threads
select thread_id, workflow, version, verdict, reason, state, head, fingerprint, last_activity_at, first_seen_at,
    changed_at, due_at, next_look_at, attempts, consecutive, revision, head_seen_at, refused_by, refusal,
    refusal_reason, spent_by, own_head, cancelled_head, pinned, suspect, quarantine_reason
from resumed.cases
where thread_id = any (%(threads)s::text[])

-- name: to_look_at
-- Cases whose look is due, oldest look first.
select thread_id from resumed.cases
where next_look_at <= %(now)s::timestamptz
order by next_look_at, thread_id
limit %(rows)s::int

-- name: listing
-- Open cases for a person to read.
select thread_id, workflow, version, verdict, reason, state, head, fingerprint, last_activity_at, first_seen_at,
    changed_at, due_at, next_look_at, attempts, consecutive, revision, head_seen_at, refused_by, refusal,
    refusal_reason, spent_by, own_head, cancelled_head, pinned, suspect, quarantine_reason
from resumed.cases
where state <> 'closed' and (%(state)s::text is null or state = %(state)s::text)
order by first_seen_at, thread_id

-- name: record
-- What a look found. Written only over the case as that look saw it: whoever wrote since knows better. What a preflight
-- said counts for as long as head and control rows are the same; a closed case is opened anew.
insert into resumed.cases as c (thread_id, workflow, version, verdict, reason, state, head, fingerprint,
    last_activity_at, first_seen_at, head_seen_at, changed_at, due_at, next_look_at, quarantine_reason)
values (%(thread_id)s::text, %(workflow)s::text, %(version)s::text, %(verdict)s::text, %(reason)s::text,
    %(state)s::text, %(head)s::text, %(fingerprint)s::text, %(last_activity_at)s::timestamptz, %(now)s::timestamptz,
    %(now)s::timestamptz, %(changed_at)s::timestamptz, %(due_at)s::timestamptz, %(next_look_at)s::timestamptz,
    %(quarantine_reason)s::text)
on conflict (thread_id) do update set workflow = excluded.workflow, version = excluded.version,
    verdict = excluded.verdict, reason = excluded.reason, state = excluded.state, head = excluded.head,
    fingerprint = excluded.fingerprint, last_activity_at = excluded.last_activity_at,
    first_seen_at = case when %(anew)s::boolean then excluded.first_seen_at else c.first_seen_at end,
    head_seen_at = case when c.head = excluded.head then c.head_seen_at else excluded.head_seen_at end,
    changed_at = excluded.changed_at, due_at = excluded.due_at, next_look_at = excluded.next_look_at,
    quarantine_reason = excluded.quarantine_reason,
    attempts = case when %(anew)s::boolean then 0 else c.attempts end,
    consecutive = case when c.head = excluded.head and not %(anew)s::boolean
        and (c.state <> 'quarantined' or excluded.state = 'quarantined') then c.consecutive else 0 end,
    refused_by = case when %(same)s::boolean then c.refused_by else '{}' end,
    refusal = case when %(same)s::boolean then c.refusal end,
    refusal_reason = case when %(same)s::boolean then c.refusal_reason end,
    spent_by = case when %(anew)s::boolean then '{}' else c.spent_by end,
    pinned = c.pinned and not %(anew)s::boolean, suspect = c.suspect and not %(anew)s::boolean,
    revision = c.revision + 1, updated_at = clock_timestamp()
where c.revision = %(revision)s::int

-- name: claim
-- Hand out due cases that this replica has the code and the room for, the workflows in turn, oldest first within each.
-- The claim is a hint that keeps replicas apart.
with wanted as (
    select * from unnest(%(workflows)s::text[], %(versions)s::text[], %(suspects)s::boolean[], %(rooms)s::int[])
        as w (workflow, version, suspect, room)
    where not exists (select from resumed.pauses p where p.paused and p.workflow in (w.workflow, ''))
), accepted as (
    select * from unnest(%(acceptors)s::text[], %(accepted)s::text[]) as a (workflow, version)
), picked as materialized (
    select due.* from wanted w
    cross join lateral (
        select c.thread_id, c.workflow, c.due_at from resumed.cases c
        where c.workflow = w.workflow and c.suspect = w.suspect and c.state in ('due', 'backoff')
        and c.due_at <= (select coalesce(%(due_by)s::timestamptz, clock_timestamp()))
        and (c.claimed_until is null or c.claimed_until < (select clock_timestamp()))
        and w.version <> all (c.refused_by || c.spent_by)
        and (c.version is null or w.version = ''
            or exists (select from accepted a where (a.workflow, a.version) = (w.workflow, c.version)))
        and c.cancelled_head is distinct from c.head and not c.cancel_pending
        order by c.due_at, c.thread_id
        limit w.room
        for update skip locked
    ) as due
), chosen as (
    select thread_id from (
        select *, row_number() over (partition by workflow order by due_at, thread_id) as turn from picked
    ) as ranked
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

-- name: still_claimed
-- Which of these were claimed and not tried.
select thread_id from resumed.cases
where thread_id = any (%(threads)s::text[]) and claimed_by = %(claimant)s::text

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

-- name: make_due
-- A person asks for an attempt: out of back-off and quarantine, its tries given back, and kept from other replicas. No
-- row comes back where somebody else cancelled or quarantined it meanwhile.
insert into resumed.cases as c (thread_id, workflow, version, verdict, reason, state, head, fingerprint,
    last_activity_at, first_seen_at, due_at, claimed_until, claimed_by)
values (%(thread_id)s::text, %(workflow)s::text, %(version)s::text, %(verdict)s::text, %(reason)s::text, 'due',
    %(head)s::text, %(fingerprint)s::text, %(last_activity_at)s::timestamptz, clock_timestamp(), clock_timestamp(),
    clock_timestamp() + interval '30 seconds', %(claimant)s::text)
on conflict (thread_id) do update set workflow = excluded.workflow, version = excluded.version, state = 'due',
    verdict = excluded.verdict, reason = excluded.reason, head = excluded.head, fingerprint = excluded.fingerprint,
    due_at = excluded.due_at, next_look_at = null, claimed_until = excluded.claimed_until,
    claimed_by = excluded.claimed_by, consecutive = 0, refused_by = '{}', refusal = null, refusal_reason = null,
    spent_by = '{}', pinned = false, suspect = false, quarantine_reason = null, revision = c.revision + 1,
    updated_at = clock_timestamp()
where (not c.pinned or %(pinned)s::boolean) and not c.cancel_pending and c.cancelled_head is distinct from excluded.head
returning thread_id

-- name: settle
-- What a look under the thread's lock said, or where an attempt left the case. A person may have spoken since that
-- look: a pinned case stays in quarantine, and where the attempt of a cancelled one stopped is its cancelled head.
update resumed.cases c
set verdict = case when s.open and c.cancel_pending then 'cancelled' else %(verdict)s::text end,
    reason = case when s.open and c.cancel_pending then 'a person cancelled it while it was tried' else %(reason)s::text end,
    state = case when s.open and c.pinned then 'quarantined' when s.open and c.cancel_pending then 'held'
        else %(state)s::text end,
    cancelled_head = case when s.open and c.cancel_pending then %(head)s::text else c.cancelled_head end,
    cancel_pending = false, head = %(head)s::text,
    fingerprint = %(fingerprint)s::text, last_activity_at = %(last_activity_at)s::timestamptz,
    head_seen_at = case when s.same_head then head_seen_at else clock_timestamp() end,
    changed_at = case when s.same_rows then changed_at when s.same_head then clock_timestamp() end,
    due_at = case when not (c.pinned or c.cancel_pending) then %(due_at)s::timestamptz end,
    next_look_at = case when s.open and (c.pinned or c.cancel_pending) then clock_timestamp()
        else %(next_look_at)s::timestamptz end,
    consecutive = coalesce(%(consecutive)s::int, consecutive),
    refused_by = s.refused_before || array_remove(array[%(refused_by)s::text], null),
    refusal = case when %(refused_by)s::text is not null then %(verdict)s::text when s.same then refusal end,
    refusal_reason = case when %(refused_by)s::text is not null then %(reason)s::text when s.same then refusal_reason end,
    spent_by = array_remove(spent_by, %(spent_by)s::text) || array_remove(array[%(spent_by)s::text], null),
    own_head = case when %(own)s::boolean then %(head)s::text else own_head end,
    suspect = coalesce(%(suspect)s::boolean, suspect),
    quarantine_reason = case when s.open and c.pinned then c.quarantine_reason else %(quarantine_reason)s::text end,
    claimed_until = null, claimed_by = null,
    revision = revision + 1, updated_at = clock_timestamp()
from (
    select thread_id, %(state)s::text <> 'closed' as open, head = %(head)s::text as same_head,
        head = %(head)s::text and fingerprint = %(fingerprint)s::text as same,
        head = %(head)s::text and split_part(fingerprint, '+', 1) = split_part(%(fingerprint)s::text, '+', 1)
            as same_rows,
        case when head = %(head)s::text and fingerprint = %(fingerprint)s::text
            then array_remove(refused_by, %(refused_by)s::text) else '{}' end as refused_before
    from resumed.cases where thread_id = %(thread_id)s::text
) s
where c.thread_id = s.thread_id

-- name: begin
-- An attempt begins on this case; made here where nobody has seen the thread before. No row comes back where a person
-- has forbidden it since the look: paused, cancelled or put into quarantine.
insert into resumed.cases (thread_id, workflow, version, verdict, reason, state, head, fingerprint, last_activity_at,
    first_seen_at, head_seen_at, attempts)
select %(thread_id)s::text, %(workflow)s::text, %(version)s::text, %(verdict)s::text, %(reason)s::text, 'running',
    %(head)s::text, %(fingerprint)s::text, %(last_activity_at)s::timestamptz, clock_timestamp(), clock_timestamp(), 1
where not exists (select from resumed.pauses p where p.paused and p.workflow in (%(workflow)s::text, ''))
on conflict (thread_id) do update set state = 'running', verdict = excluded.verdict, reason = excluded.reason,
    head = excluded.head, fingerprint = excluded.fingerprint, due_at = null, next_look_at = null,
    refused_by = case when (cases.head, cases.fingerprint) = (excluded.head, excluded.fingerprint)
        then cases.refused_by else '{}' end,
    refusal = case when (cases.head, cases.fingerprint) = (excluded.head, excluded.fingerprint) then cases.refusal end,
    refusal_reason = case when (cases.head, cases.fingerprint) = (excluded.head, excluded.fingerprint)
        then cases.refusal_reason end,
    head_seen_at = case when cases.head = excluded.head then cases.head_seen_at else excluded.head_seen_at end,
    attempts = cases.attempts + 1, revision = cases.revision + 1, updated_at = clock_timestamp()
where not cases.pinned and not cases.cancel_pending and cases.cancelled_head is distinct from excluded.head
returning attempts, consecutive
