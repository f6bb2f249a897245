-- What a scaler of replicas asks: how many attempts are wanted now. Read through the view alone, so its role needs no
-- right to any table. A later change keeps the columns, and replaces the view in place, or that right is gone.

-- The newest are read first: those that no sweep has seen yet.
create index runs_submitted_at_idx on resumed.runs (workflow, begun_at) where state = 'submitted';

-- Only what one more replica of the code that is running now could help with: a workflow that is live, not paused, and
-- whose circuit is closed; cases that a live version takes, that are not tried alone and not cancelled. A case that is
-- claimed counts as due until its attempt begins. Nothing is counted beyond 10 000, and of the due cases of a version
-- no more are looked at. Left alone, the planner would rather fetch and sort all of a million than read the first ones
-- from the index; so the cases have no order here, and other ways than an index are closed.
create function resumed.backlog_v1(out load int, out due int, out submitted int, out inflight int)
    language sql stable security definer
    set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
    set enable_hashjoin = off set enable_mergejoin = off set jit = off
    as $$
with live as materialized (
    -- As `claim` has it: code without a version takes any.
    select w.name, w.version, w.accepts from resumed.workflows w
    where w.seen_at > (select clock_timestamp()) - interval '1 minute'
    and not exists (select from resumed.pauses p where p.paused and p.workflow in (w.name, ''))
), helped as materialized (
    -- The rule of judge/circuit_breaker.py, over the same attempts.
    select named.name, named.any_version
    from (select name, bool_or(version = '') as any_version from live group by name) named
    cross join lateral (
        select count(*) as ended, count(*) filter (where told.charged) as charged,
            count(distinct told.thread_id) filter (where told.charged) as threads
        from (
            select a.charged, a.thread_id from resumed.attempts a
            where a.workflow = named.name and (a.charged or a.outcome in ('finished', 'waiting'))
            order by a.finished_at desc
            limit 20
        ) told
    ) last
    where not (2 * last.charged > last.ended and last.threads >= 10)
), accepted as materialized (
    select distinct l.name, v.version from live l cross join lateral unnest(l.version || l.accepts) v (version)
), found as (
    select old.* from helped h
    cross join lateral (
        select c.workflow, c.version, c.refused_by || c.spent_by as left_by, c.head, c.cancelled_head, c.cancel_pending
        from resumed.cases c
        where c.workflow = h.name and not c.suspect and c.state in ('due', 'backoff')
        and c.due_at <= (select clock_timestamp())
        limit 10000
    ) old
    where h.any_version
    union all
    select old.* from helped h
    cross join lateral (
        select c.workflow, c.version, c.refused_by || c.spent_by, c.head, c.cancelled_head, c.cancel_pending
        from resumed.cases c
        where c.workflow = h.name and not c.suspect and c.state in ('due', 'backoff') and c.version is null
        and c.due_at <= (select clock_timestamp())
        limit 10000
    ) old
    where not h.any_version
    union all
    select old.* from helped h
    join accepted a on a.name = h.name
    cross join lateral (
        select c.workflow, c.version, c.refused_by || c.spent_by, c.head, c.cancelled_head, c.cancel_pending
        from resumed.cases c
        where c.workflow = h.name and not c.suspect and c.state in ('due', 'backoff') and c.version = a.version
        and c.due_at <= (select clock_timestamp())
        limit 10000
    ) old
    where not h.any_version
), counted as materialized (
    select (
        select count(*) from (
            select from found f
            where f.cancelled_head is distinct from f.head and not f.cancel_pending
            and exists (
                select from live l
                where l.name = f.workflow and l.version <> all (f.left_by)
                and (l.version = '' or f.version is null or f.version = any (l.version || l.accepts))
            )
            limit 10000
        ) bounded
    ) as due, (
        select count(*) from (
            select from helped h
            cross join lateral (
                select r.thread_id, r.version from resumed.runs r
                where r.workflow = h.name and r.state = 'submitted'
                order by r.begun_at desc
                limit 10000
            ) recent
            -- One look each, by index: a join could read all cases.
            left join lateral (
                select true as it from resumed.cases c
                where c.thread_id = recent.thread_id and c.state <> 'closed'
                limit 1
            ) known on true
            where known.it is null and (
                h.any_version or recent.version is null
                or exists (select from accepted a where a.name = h.name and a.version = recent.version)
            )
            limit 10000
        ) bounded
    ) as submitted, (
        select count(*) from (
            select from resumed.attempts a where a.finished_at is null limit 10000
        ) bounded
    ) as inflight
)
select least(due + submitted + inflight, 10000)::int, due::int, submitted::int, inflight::int
from counted
$$;

create view resumed.backlog as select b.load, b.due, b.submitted, b.inflight from resumed.backlog_v1() b;
