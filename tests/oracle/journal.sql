-- Journals every row that a checkpointer under test writes, and rebuilds any earlier state of a thread elsewhere.
-- `copies` holds the copy on which our attempt runs, `plain` the one on which LangGraph itself does.

create schema journal;
create schema copies;
create schema plain;

create table journal.rows (
    seq bigserial primary key,
    xid bigint not null default pg_current_xact_id()::text::bigint,
    source text not null,
    relation text not null,
    operation text not null,
    thread_id text not null,
    content jsonb not null
);
create index on journal.rows (source, thread_id, xid);

create function journal.record() returns trigger language plpgsql as $$
declare
    content jsonb := to_jsonb(case when tg_op = 'DELETE' then old else new end);
begin
    insert into journal.rows (source, relation, operation, thread_id, content)
    values (tg_table_schema, tg_table_name, tg_op, content ->> 'thread_id', content);
    return null;
end $$;

create function journal.make_tables(target text, journalled boolean) returns void language plpgsql as $$
declare
    relation text;
begin
    execute format('create schema if not exists %I', target);
    foreach relation in array array['checkpoints', 'checkpoint_blobs', 'checkpoint_writes', 'checkpoint_migrations'] loop
        execute format('create table %I.%I (like public.%I including all)', target, relation, relation);
        if journalled and relation <> 'checkpoint_migrations' then
            execute format(
                'create trigger journal after insert or update or delete on %I.%I for each row execute function journal.record()',
                target, relation
            );
        end if;
    end loop;
    execute format('insert into %I.checkpoint_migrations select * from public.checkpoint_migrations', target);
end $$;

select journal.make_tables('copies', false), journal.make_tables('plain', false);

create function journal.apply(entry journal.rows, target text) returns void language plpgsql as $$
begin
    execute format(
        'delete from %1$I.%2$I t using jsonb_populate_record(null::%1$I.%2$I, $1) n where t.thread_id = n.thread_id
         and t.checkpoint_ns = n.checkpoint_ns and ' || case entry.relation
            when 'checkpoints' then 't.checkpoint_id = n.checkpoint_id'
            when 'checkpoint_blobs' then 't.channel = n.channel and t.version = n.version'
            else 't.checkpoint_id = n.checkpoint_id and t.task_id = n.task_id and t.idx = n.idx' end,
        target, entry.relation
    ) using entry.content;
    if entry.operation <> 'DELETE' then
        execute format(
            'insert into %1$I.%2$I select * from jsonb_populate_record(null::%1$I.%2$I, $1)', target, entry.relation
        ) using entry.content;
    end if;
end $$;

-- One transaction for each that was journalled, in the same order: verdicts read the order of transactions.
create procedure journal.replay(wanted_source text, wanted_thread text, upto bigint, target text) language plpgsql as $$
declare
    entry journal.rows;
    last bigint := 0;
begin
    execute format('delete from %I.checkpoints', target);
    execute format('delete from %I.checkpoint_blobs', target);
    execute format('delete from %I.checkpoint_writes', target);
    commit;
    for entry in
        select * from journal.rows where source = wanted_source and thread_id = wanted_thread and xid <= upto
        order by xid, seq
    loop
        if last <> 0 and entry.xid <> last then
            commit;
        end if;
        last := entry.xid;
        perform journal.apply(entry, target);
    end loop;
end $$;
