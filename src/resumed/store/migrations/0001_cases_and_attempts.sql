create schema if not exists resumed;

create table resumed.schema_version (
    version int primary key,
    compatible_from int not null,
    applied_at timestamptz not null default now()
);

-- What the replicas' workers said they have; numbers only. A version seen in the last minute is live.
create table resumed.workflows (
    name text not null,
    version text not null,
    accepts text[] not null,
    triggers text[] not null,
    min_age interval not null,
    max_age interval not null,
    max_attempts int not null,
    max_total_attempts int not null,
    retry_base interval not null,
    retry_cap interval not null,
    timeout interval not null,
    concurrency int not null,
    seen_at timestamptz not null,
    primary key (name, version)
);

-- A row for each thread that was ever found unfinished.
create table resumed.cases (
    thread_id text primary key,
    workflow text,
    version text,
    verdict text not null check (verdict in ('running', 'cancelled', 'waiting', 'breakpoint', 'finished', 'edited',
        'unclaimed', 'incompatible', 'expired', 'failed', 'stopped')),
    reason text not null,
    state text not null check (state in ('due', 'running', 'backoff', 'held', 'quarantined', 'closed')),
    head text not null,
    fingerprint text not null,
    last_activity_at timestamptz not null,
    first_seen_at timestamptz not null,
    head_seen_at timestamptz not null default now(),
    changed_at timestamptz,
    due_at timestamptz,
    next_look_at timestamptz,
    claimed_until timestamptz,
    claimed_by text,
    attempts int not null default 0,
    consecutive int not null default 0,
    refused_by text[] not null default '{}',
    refusal text,
    refusal_reason text,
    spent_by text[] not null default '{}',
    own_head text,
    cancelled_head text,
    pinned boolean not null default false,
    quarantine_reason text,
    revision int not null default 1,
    updated_at timestamptz not null default now()
);
create index cases_due_idx on resumed.cases (due_at, thread_id) where state in ('due', 'backoff');
create index cases_look_idx on resumed.cases (next_look_at, thread_id) where next_look_at is not null;
create index cases_open_idx on resumed.cases (workflow, state) where state <> 'closed';
create index cases_closed_idx on resumed.cases (updated_at) where state = 'closed';

-- Append only. `ended` is what was done to the case, not to the thread's rows, which are LangGraph's.
create table resumed.attempts (
    thread_id text not null,
    attempt int not null,
    workflow text not null,
    version text not null,
    worker text not null,
    started_at timestamptz not null,
    finished_at timestamptz,
    outcome text check (outcome in ('lock_lost', 'superseded', 'crashed', 'timed_out', 'drained', 'incompatible',
        'failed', 'finished', 'waiting', 'no_progress')),
    advanced boolean not null default false,
    charged boolean not null default false,
    before text not null,
    after text,
    error_type text,
    error_at text,
    error text,
    closed_by text,
    primary key (thread_id, attempt),
    check ((finished_at is null) = (outcome is null))
);
create unique index attempts_open_idx on resumed.attempts (thread_id) where finished_at is null;
create index attempts_recent_idx on resumed.attempts (started_at);

-- How far the sweep has looked. The row is the sweep's lock: `for update skip locked`.
create table resumed.watermarks (
    name text primary key,
    position timestamptz not null,
    wide_at timestamptz not null,
    checkpoint_schema text not null,
    updated_at timestamptz not null
);

-- The key of a thread's advisory lock: the first eight bytes of SHA-256 of `resume_<thread_id>`, big-endian, signed.
create function resumed.lock_key(thread_id text) returns bigint
    language sql immutable strict parallel safe
    as $$ select ('x' || encode(substr(sha256(convert_to('resume_' || thread_id, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint $$;

-- Compare and set of an attempt's saves: true while `parent` is still the thread's newest root checkpoint.
create function resumed.require_head(thread text, namespace text, parent text, checkpoint text) returns boolean
    language plpgsql stable
    as $$
declare
    head text;
begin
    if namespace <> '' then
        return true;
    end if;
    select c.checkpoint_id into head from checkpoints c
        where c.thread_id = thread and c.checkpoint_ns = '' order by c.checkpoint_id desc limit 1;
    if head is not distinct from parent or head = checkpoint then
        return true;
    end if;
    raise exception 'the head of the thread has moved' using errcode = 'RS001';
end
$$;
