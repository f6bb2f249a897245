-- Runs that applications register: proof that one began, with its input until that is applied, and of how it ended.

create table resumed.runs (
    run_id text primary key,
    thread_id text not null,
    workflow text not null,
    version text,
    -- submitted: for the daemon to begin; open: an application's; taken: a daemon's attempt has gone on with it.
    state text not null check (state in ('submitted', 'open', 'taken', 'finished', 'waiting', 'failed', 'cancelled')),
    submitted boolean not null default false,
    -- Since an attempt began on it, also after it has ended.
    taken boolean not null default false,
    -- The head before the run (empty: none) and, where the input is a command, its control rows.
    head_before text not null default '',
    rows_before text,
    input_type text,
    input bytea,
    call jsonb not null default '{}',
    owner text not null,
    begun_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    check ((ended_at is null) = (state in ('submitted', 'open', 'taken')))
);
create unique index runs_unended_idx on resumed.runs (thread_id) where ended_at is null;
-- What was submitted once is not submitted again, however it ended.
create unique index runs_submitted_idx on resumed.runs (thread_id) where submitted;
create index runs_ended_idx on resumed.runs (ended_at) where ended_at is not null;

-- Take a thread's lock for as long as the session lives and register a run under it, in one round trip. A statement of
-- a volatile function sees what was committed before it, so the head is read after the lock was taken. The answer is
-- `begun`, `locked` (elsewhere) or `unfinished`: an earlier run has not ended; the lock is ours then.
create function resumed.begin_run(
    p_key bigint, p_run text, p_thread text, p_workflow text, p_version text, p_owner text, p_input_type text,
    p_input bytea, p_call jsonb, p_rows text, out said text, out head text
)
    language plpgsql volatile
    as $$
begin
    if not pg_try_advisory_lock(p_key) then
        said := 'locked';
        return;
    end if;
    select c.checkpoint_id into head from checkpoints c
        where c.thread_id = p_thread and c.checkpoint_ns = '' order by c.checkpoint_id desc limit 1;
    head := coalesce(head, '');
    insert into resumed.runs (run_id, thread_id, workflow, version, state, head_before, rows_before, input_type, input,
        call, owner)
    values (p_run, p_thread, p_workflow, p_version, 'open', head, p_rows, p_input_type, p_input, p_call, p_owner)
    on conflict (thread_id) where ended_at is null do nothing;
    if not found then
        said := 'unfinished';
        return;
    end if;
    -- Whoever runs a cancelled thread again means to have it run.
    update resumed.cases c set cancelled_head = null, revision = revision + 1
        where c.thread_id = p_thread and c.cancelled_head = begin_run.head;
    said := 'begun';
end
$$;

-- After its session was lost, take the lock of a run again, if the run is still its application's. The answer is
-- `regained`, `locked` (elsewhere) or `gone`: a daemon has gone on with the run, or it was cancelled.
create function resumed.regain_run(p_key bigint, p_run text, p_thread text, out said text, out head text)
    language plpgsql volatile
    as $$
begin
    if not exists (select from resumed.runs where run_id = p_run and not taken and state in ('open', 'waiting', 'finished')) then
        said := 'gone';
        return;
    end if;
    if not pg_try_advisory_lock(p_key) then
        said := 'locked';
        return;
    end if;
    update resumed.runs set state = 'open', ended_at = null
        where run_id = p_run and not taken and state in ('open', 'waiting', 'finished');
    if not found then
        perform pg_advisory_unlock(p_key);
        said := 'gone';
        return;
    end if;
    select c.checkpoint_id into head from checkpoints c
        where c.thread_id = p_thread and c.checkpoint_ns = '' order by c.checkpoint_id desc limit 1;
    head := coalesce(head, '');
    said := 'regained';
exception when unique_violation then
    -- Another run of the thread has begun since ours was taken for ended.
    perform pg_advisory_unlock(p_key);
    said := 'gone';
end
$$;

-- Mark how a run ended (null: it has not) and give its lock back, in one round trip; false where the lock had been lost.
-- The lock is free a moment before the end is committed. Who looks in that moment finds the run open and its thread's
-- rows as it left them, which say the same; who begins the next run waits for the commit at the index.
create function resumed.end_run(p_key bigint, p_run text, p_state text) returns boolean
    language plpgsql volatile
    as $$
begin
    if p_state is not null then
        update resumed.runs set state = p_state, ended_at = clock_timestamp(), input_type = null, input = null
            where run_id = p_run and ended_at is null;
    end if;
    return pg_advisory_unlock(p_key);
end
$$;
