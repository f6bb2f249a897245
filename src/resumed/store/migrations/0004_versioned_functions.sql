-- The functions that processes of several releases call in one database, each with its version in its name.
--
-- Such a function is never replaced once a release has called it. A change makes `_v2` beside it, so that the processes
-- of one release run on under the schema of a newer one. The names without a version are those of schema 3 and stay as
-- they are, for processes that were started before this migration. `lock_key` needs no version: every process, also one
-- that is not ours, has to compute the same key.

-- Compare and set of an attempt's saves: true while `parent` is still the thread's newest root checkpoint.
create function resumed.require_head_v1(thread text, namespace text, parent text, checkpoint text) returns boolean
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

-- Take a thread's lock for as long as the session lives and register a run under it, in one round trip. A statement of
-- a volatile function sees what was committed before it, so the head is read after the lock was taken. `said` is
-- `begun`, `locked` (by another session) or `unfinished`: an earlier run has not ended; this session has the lock then.
create function resumed.begin_run_v1(
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
    -- An application that runs a cancelled thread again means to have it run.
    update resumed.cases c set cancelled_head = null, revision = revision + 1
        where c.thread_id = p_thread and c.cancelled_head = begin_run_v1.head;
    said := 'begun';
end
$$;

-- Take the lock of a run again after its session was lost, if the run is still its application's. `said` is `regained`,
-- `locked` (by another session) or `gone`: a daemon has continued the run, or it was cancelled.
create function resumed.regain_run_v1(p_key bigint, p_run text, p_thread text, out said text, out head text)
    language plpgsql volatile
    as $$
begin
    if not exists (
        select from resumed.runs where run_id = p_run and not taken and state in ('open', 'waiting', 'finished')
    ) then
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

-- Mark how a run ended (null: it has not) and release its lock, in one round trip; false where the lock had been lost.
-- The lock is free a moment before the end is committed. A process that looks in that moment finds the run open and its
-- thread's rows as the run left them, which say the same; one that begins the next run waits for the commit at the
-- index.
create function resumed.end_run_v1(p_key bigint, p_run text, p_state text) returns boolean
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

-- Claims read `cases_due_by_workflow_idx` since schema 2.
drop index resumed.cases_due_idx;
