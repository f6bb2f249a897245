-- What contains trouble: suspects, pauses, cancelled threads, and who asked for what.

alter table resumed.cases
    -- The last attempt ended with its worker: the thread is tried alone.
    add column suspect boolean not null default false,
    -- A person cancelled while an attempt was running: the head where that stops is the cancelled one.
    add column cancel_pending boolean not null default false;

-- Due cases of one workflow, oldest first, suspects apart: ten thousand of one must not hide ten of another.
create index cases_due_by_workflow_idx on resumed.cases (workflow, suspect, due_at, thread_id)
    where state in ('due', 'backoff');

-- The circuit of a workflow is a function of its last attempts.
create index attempts_told_idx on resumed.attempts (workflow, finished_at desc)
    where charged or outcome in ('finished', 'waiting');

-- The kill switch; the empty name stands for every workflow. A row stays when the pause is over.
create table resumed.pauses (
    workflow text primary key,
    paused boolean not null,
    actor text not null,
    reason text not null,
    since timestamptz not null
);

-- Append only: who asked for what, and why. The reason is the person's own words.
create table resumed.audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    actor text not null,
    action text not null check (action in ('resume', 'release', 'quarantine', 'cancel', 'pause', 'unpause', 'prune')),
    thread_id text,
    workflow text,
    reason text
);
create index audit_thread_idx on resumed.audit (thread_id, id) where thread_id is not null;
