-- Retention: what a workflow asks for, how far the pruning of threads has come, and the functions that delete our rows.

alter table resumed.workflows
    add column retention text check (retention in ('keep_latest', 'delete')),
    add column retain interval;

-- How far the look for threads to prune has come, one row for each set of policies that share a length of time. The
-- position is the newest checkpoint of a thread and its thread; a cycle begins at the oldest checkpoint again.
create table resumed.prune_positions (
    policies text primary key,
    checkpoint_id text not null default '',
    thread_id text not null default '',
    cycle_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp()
);

-- Threads that are to be deleted, as they stood when they were marked, and those that have been, for a day: a run that
-- was under way without the thread's lock may save them again.
create table resumed.prune_marks (
    thread_id text primary key,
    workflow text not null,
    head text not null,
    newest_id text not null,
    fingerprint text not null,
    -- A person asked for it; else it holds for as long as the policy does.
    asked boolean not null,
    retain interval not null,
    marked_at timestamptz not null default clock_timestamp(),
    deleted_at timestamptz
);
create index prune_marks_marked_idx on resumed.prune_marks (marked_at);

-- The runner has no right to delete our rows: these functions have their owner's, and delete only what is over. No row
-- of an open case, no run that has not ended; nothing of the last day, and no audit of the last thirty.
create function resumed.forget_cases_v1(p_threads text[], p_before timestamptz) returns int
    language sql volatile security definer set search_path = pg_catalog, pg_temp
    as $$
    with gone as (
        delete from resumed.cases
        where thread_id = any (p_threads) and state = 'closed'
        and updated_at < least(p_before, clock_timestamp() - interval '1 day')
        returning thread_id
    )
    select count(*)::int from gone
$$;

-- Attempts go after their case. The oldest are looked at first, and at most so many.
create function resumed.forget_attempts_v1(p_before timestamptz, p_rows int) returns int
    language sql volatile security definer set search_path = pg_catalog, pg_temp
    as $$
    with old as (
        select a.thread_id, a.attempt from resumed.attempts a
        where a.started_at < least(p_before, clock_timestamp() - interval '1 day')
        and a.finished_at < least(p_before, clock_timestamp() - interval '1 day')
        and not exists (
            select from resumed.cases c where c.thread_id = a.thread_id
            and (c.state <> 'closed' or c.updated_at >= least(p_before, clock_timestamp() - interval '1 day'))
        )
        order by a.started_at
        limit p_rows
    ), gone as (
        delete from resumed.attempts a using old
        where (a.thread_id, a.attempt) = (old.thread_id, old.attempt)
        returning a.attempt
    )
    select count(*)::int from gone
$$;

create function resumed.forget_runs_v1(p_runs text[], p_before timestamptz) returns int
    language sql volatile security definer set search_path = pg_catalog, pg_temp
    as $$
    with gone as (
        delete from resumed.runs r
        where r.run_id = any (p_runs) and r.ended_at < least(p_before, clock_timestamp() - interval '1 day')
        and not exists (select from resumed.cases c where c.thread_id = r.thread_id and c.state <> 'closed')
        returning r.run_id
    )
    select count(*)::int from gone
$$;

-- Versions that no look reads any more: never one that was about in the last thirty days.
create function resumed.forget_versions_v1(p_before timestamptz) returns int
    language sql volatile security definer set search_path = pg_catalog, pg_temp
    as $$
    with gone as (
        delete from resumed.workflows
        where seen_at < least(p_before, clock_timestamp() - interval '30 days')
        returning name
    )
    select count(*)::int from gone
$$;

create function resumed.forget_audit_v1(p_before timestamptz, p_rows int) returns int
    language sql volatile security definer set search_path = pg_catalog, pg_temp
    as $$
    with gone as (
        delete from resumed.audit
        where id in (select a.id from resumed.audit a order by a.id limit p_rows)
        and at < least(p_before, clock_timestamp() - interval '30 days')
        returning id
    )
    select count(*)::int from gone
$$;

-- Marks of these threads, marks of threads deleted a day ago, and positions that nobody has moved for thirty days.
create function resumed.forget_marks_v1(p_threads text[]) returns int
    language sql volatile security definer set search_path = pg_catalog, pg_temp
    as $$
    with stale as (
        delete from resumed.prune_positions where updated_at < clock_timestamp() - interval '30 days'
    ), gone as (
        delete from resumed.prune_marks
        where thread_id = any (p_threads) or deleted_at < clock_timestamp() - interval '1 day'
        returning thread_id
    )
    select count(*)::int from gone
$$;

revoke execute on function resumed.forget_cases_v1(text[], timestamptz), resumed.forget_attempts_v1(timestamptz, int),
    resumed.forget_runs_v1(text[], timestamptz), resumed.forget_versions_v1(timestamptz),
    resumed.forget_audit_v1(timestamptz, int), resumed.forget_marks_v1(text[]) from public;
