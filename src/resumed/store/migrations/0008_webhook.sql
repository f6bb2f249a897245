-- The webhook: notices of what happened, written by triggers in the transaction of what they tell, and one row that says
-- whether any replica wants them, what is being sent, and when the next request may be made.
--
-- Triggers, because every release that writes cases and pauses beside this schema tells of them, in whatever statement
-- it does so. They have the owner's rights: who writes a case needs none on notices.

create table resumed.webhook (
    only_row boolean primary key default true check (only_row),
    -- Until then notices are written; replicas with a webhook renew it.
    wanted_until timestamptz not null default '-infinity',
    -- No request is made before.
    next_at timestamptz not null default '-infinity',
    -- What was taken out of `notices` and is to be in the next message: JSON in ASCII, empty for nothing.
    gathered text not null default '',
    gathered_notices bigint not null default 0,
    -- The message that is being sent, the same at every try; null when there is none.
    message_id text,
    body text,
    message_notices bigint not null default 0,
    -- The failed tries in a row, since when, and how the last one failed.
    failures int not null default 0,
    failing_since timestamptz,
    failure text,
    -- Workflows whose open circuit has been told.
    open_circuits text[] not null default '{}'
);
insert into resumed.webhook default values;

create table resumed.notices (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    type text not null,
    -- Null: threads that no workflow claims, or a pause of everything.
    workflow text,
    -- The first 201 characters.
    thread_id text
);

create function resumed.note_case_v1() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    as $$
begin
    if exists (select from resumed.webhook where wanted_until > clock_timestamp()) then
        insert into resumed.notices (type, workflow, thread_id)
            values (tg_argv[0], left(new.workflow, 201), left(new.thread_id, 201));
    end if;
    return null;
end
$$;

create function resumed.note_pause_v1() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    as $$
begin
    if exists (select from resumed.webhook where wanted_until > clock_timestamp()) then
        insert into resumed.notices (type, workflow) values ('workflow.paused', left(nullif(new.workflow, ''), 201));
    end if;
    return null;
end
$$;

create trigger note_quarantined_new after insert on resumed.cases for each row
    when (new.state = 'quarantined')
    execute function resumed.note_case_v1('case.quarantined');
create trigger note_quarantined after update of state on resumed.cases for each row
    when (new.state = 'quarantined' and old.state <> 'quarantined')
    execute function resumed.note_case_v1('case.quarantined');

-- A thread that waits at another head than before has come to its next question.
create trigger note_waiting_new after insert on resumed.cases for each row
    when (new.state = 'held' and new.verdict = 'waiting')
    execute function resumed.note_case_v1('case.waiting');
create trigger note_waiting after update of state, verdict, head on resumed.cases for each row
    when (
        new.state = 'held' and new.verdict = 'waiting'
        and (old.state <> 'held' or old.verdict <> 'waiting' or old.head <> new.head)
    )
    execute function resumed.note_case_v1('case.waiting');

create trigger note_paused_new after insert on resumed.pauses for each row
    when (new.paused)
    execute function resumed.note_pause_v1();
create trigger note_paused after update of paused on resumed.pauses for each row
    when (new.paused and not old.paused)
    execute function resumed.note_pause_v1();

-- Take the oldest notices out of the table, at most so many, and return them by type and workflow, each group with a few
-- of its threads.
create function resumed.forget_notices_v1(p_rows int, p_threads int)
    returns table (type text, workflow text, notices bigint, first_at timestamptz, last_at timestamptz, threads text[])
    language sql volatile security definer set search_path = pg_catalog, pg_temp
    as $$
    with taken as (
        delete from resumed.notices
        where id in (select n.id from resumed.notices n order by n.id limit p_rows)
        returning type, workflow, thread_id, at
    )
    select t.type, t.workflow, count(*), min(t.at), max(t.at),
        coalesce((array_agg(distinct t.thread_id) filter (where t.thread_id is not null))[1:p_threads], '{}')
    from taken t
    group by t.type, t.workflow
$$;

-- Notices that no replica has wanted for a week, at most so many, and what was gathered of them.
create function resumed.forget_unwanted_v1(p_rows int) returns int
    language sql volatile security definer set search_path = pg_catalog, pg_temp
    as $$
    with unwanted as (
        select from resumed.webhook where wanted_until < clock_timestamp() - interval '7 days'
    ), emptied as (
        update resumed.webhook
        set gathered = '', gathered_notices = 0, message_id = null, body = null, message_notices = 0, failures = 0,
            failing_since = null, failure = null, open_circuits = '{}'
        where exists (select from unwanted) and (gathered <> '' or body is not null or open_circuits <> '{}')
    ), gone as (
        delete from resumed.notices
        where exists (select from unwanted)
        and id in (select n.id from resumed.notices n order by n.id limit p_rows)
        returning id
    )
    select count(*)::int from gone
$$;

revoke execute on function resumed.forget_notices_v1(int, int), resumed.forget_unwanted_v1(int) from public;
