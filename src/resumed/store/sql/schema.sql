-- The catalogue: which version our schema has, whether LangGraph's tables and the index are there.

-- name: have_versions
select to_regclass('resumed.schema_version') is not null as have

-- name: version
select version, compatible_from from resumed.schema_version order by version desc limit 1

-- name: record_version
insert into resumed.schema_version (version, compatible_from) values (%(version)s::int, %(compatible_from)s::int)

-- name: tables
-- Which of LangGraph's tables the schema on the search_path lacks.
select t.name
from unnest(array['checkpoints', 'checkpoint_blobs', 'checkpoint_writes']) as t (name)
where to_regclass(t.name) is null
order by t.name

-- name: missing_grants
-- What the current role lacks of the runner's grants (deploy/sql/roles.sql), on things that are there: a table that is
-- missing is another fault. Read from the catalogue, because without usage on its schema a name cannot even be looked up.
-- Who only reads needs no rights to write. Without the rights to forget, a replica works and forgets nothing; without
-- those of the webhook it sends nothing. A trigger's function needs none. LangGraph's schema is the one that the
-- search_path names.
with needed (schema, name, rights) as (
    values
        ('resumed', 'schema_version', array['select']),
        ('resumed', 'workflows', array['select', 'insert', 'update']),
        ('resumed', 'cases', array['select', 'insert', 'update']),
        ('resumed', 'attempts', array['select', 'insert', 'update']),
        ('resumed', 'watermarks', array['select', 'insert', 'update']),
        ('resumed', 'pauses', array['select', 'insert', 'update']),
        ('resumed', 'audit', array['select', 'insert']),
        ('resumed', 'runs', array['select', 'insert', 'update']),
        (null, 'checkpoints', array['select', 'insert', 'update']),
        (null, 'checkpoint_blobs', array['select', 'insert']),
        (null, 'checkpoint_writes', array['select', 'insert', 'update'])
), named (schema) as (
    select (parse_ident(current_setting('search_path')))[1]
), things (kind, thing, rights) as (
    select 1, 'schema ' || quote_ident(n.nspname),
        case when not has_schema_privilege(n.oid, 'usage') then array['usage'] end
    from pg_namespace n, named
    where n.nspname in ('resumed', named.schema)
    union all
    select 2, 'table ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname),
        array(
            select r.name from unnest(needed.rights) with ordinality as r (name, place)
            where (%(writing)s::boolean or r.name = 'select') and not has_table_privilege(c.oid, r.name)
            order by r.place
        )
    from needed, named, pg_namespace n, pg_class c
    where n.nspname = coalesce(needed.schema, named.schema) and c.relnamespace = n.oid and c.relname = needed.name
    union all
    select 3, 'function ' || quote_ident(n.nspname) || '.' || quote_ident(p.proname),
        case when not has_function_privilege(p.oid, 'execute') then array['execute'] end
    from pg_namespace n, pg_proc p
    where n.nspname = 'resumed' and p.pronamespace = n.oid and not starts_with(p.proname, 'forget_')
    and p.prorettype <> 'trigger'::regtype
)
select upper(array_to_string(rights, ', ')) || ' on ' || thing as missing
from things
where cardinality(rights) > 0
order by kind, thing

-- name: missing_columns
-- What the tables lack of the columns that are read and written here.
with needed (name, columns) as (
    values
        ('checkpoints', array['thread_id', 'checkpoint_ns', 'checkpoint_id', 'parent_checkpoint_id', 'checkpoint',
            'metadata']),
        ('checkpoint_blobs', array['thread_id', 'checkpoint_ns', 'channel', 'version', 'type', 'blob']),
        ('checkpoint_writes', array['thread_id', 'checkpoint_ns', 'checkpoint_id', 'task_id', 'idx', 'channel', 'type',
            'blob', 'task_path'])
)
select needed.name || '.' || wanted.name as name
from needed, unnest(needed.columns) with ordinality as wanted (name, place)
where to_regclass(needed.name) is not null and not exists (
    select from pg_attribute a
    where a.attrelid = to_regclass(needed.name) and a.attname = wanted.name and not a.attisdropped
)
order by needed.name desc, wanted.place

-- name: hidden_tables
-- LangGraph's tables and ours on which row-level security acts on the current role: some rows, or all, cannot be seen.
select quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where (
    n.nspname = 'resumed'
    or n.nspname = (parse_ident(current_setting('search_path')))[1]
    and c.relname in ('checkpoints', 'checkpoint_blobs', 'checkpoint_writes')
)
and c.relkind in ('r', 'p') and c.relrowsecurity and row_security_active(c.oid)
order by 1

-- name: read_only
select current_setting('transaction_read_only')::boolean as read_only, pg_is_in_recovery() as standby

-- name: has_index
-- Whether every table that holds checkpoints, of a partitioned one each partition, has a finished index whose first
-- column is checkpoint_id, ours or another. `partitioned` and `covered`: whether the whole is partitioned, and
-- whether it has such an index of its own, from which each new partition gets one.
with root as (
    select c.oid, c.relkind from pg_class c where c.oid = to_regclass('checkpoints')
), leaves as (
    select t.relid as oid from root, pg_partition_tree(root.oid) t join pg_class c on c.oid = t.relid
    where t.isleaf and c.relkind = 'r'
    union
    select root.oid from root where root.relkind <> 'p'
), indexed as (
    select i.indrelid as oid, i.indisvalid and i.indisready as whole
    from pg_index i
    join pg_class c on c.oid = i.indexrelid
    join pg_am m on m.oid = c.relam and m.amname = 'btree'
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where a.attname = 'checkpoint_id' and i.indpred is null
    and i.indrelid in (select oid from leaves union select oid from root)
)
select not exists (
        select from leaves where not exists (select from indexed where indexed.oid = leaves.oid and indexed.whole)
    ) as indexed,
    root.relkind = 'p' as partitioned,
    exists (select from indexed where indexed.oid = root.oid and indexed.whole) as covered
from root

-- name: build_index
create index concurrently if not exists resumed_checkpoint_id_idx on checkpoints (checkpoint_id)

-- name: drop_index
drop index concurrently if exists resumed_checkpoint_id_idx

-- name: next_step
-- What is to be done next for an index on a partitioned table without blocking its writers: an index on each
-- partitioned level alone, one on each partition built concurrently, each attached to the one above it. The catalogue
-- is the only memory, so a `migrate` that was killed goes on where it stopped. What was left half built is dropped, or
-- where it is attached built again. `brief` is what takes a moment and must not keep writers waiting behind it.
with recursive tree as (
    select t.relid, t.parentrelid, t.level, c.relkind,
        quote_ident(n.nspname) || '.' || quote_ident(c.relname) as table_name,
        quote_ident(n.nspname) || '.' as schema_name,
        'resumed_checkpoint_id_idx' || case when t.level > 0 then '_' || t.relid::oid::text else '' end as index_name,
        c.relnamespace as schema
    from pg_partition_tree(to_regclass('checkpoints')) t
    join pg_class c on c.oid = t.relid
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p')
), found as (
    -- The index of each table, from the top: the one attached to that of the level above, else the one of our name.
    select tree.*, own.oid as index_oid, false as attached, null::oid as above
    from tree
    left join pg_class own on own.relnamespace = tree.schema and own.relname = tree.index_name
    where tree.level = 0
    union all
    select tree.*, coalesce(part.oid, own.oid), part.oid is not null, found.index_oid
    from found
    join tree on tree.parentrelid = found.relid
    left join lateral (
        select i.indexrelid as oid from pg_inherits h join pg_index i on i.indexrelid = h.inhrelid
        where h.inhparent = found.index_oid and i.indrelid = tree.relid
        limit 1
    ) as part on true
    left join pg_class own on own.relnamespace = tree.schema and own.relname = tree.index_name
), named as (
    select found.*, i.indisvalid and i.indisready as whole,
        quote_ident(n.nspname) || '.' || quote_ident(c.relname) as found_name,
        quote_ident(un.nspname) || '.' || quote_ident(u.relname) as above_name
    from found
    left join pg_class c on c.oid = found.index_oid
    left join pg_namespace n on n.oid = c.relnamespace
    left join pg_index i on i.indexrelid = found.index_oid
    left join pg_class u on u.oid = found.above
    left join pg_namespace un on un.oid = u.relnamespace
), steps as (
    select level, relid, relkind = 'p' or (whole and not attached) as brief, table_name,
        case
            when relkind = 'p' and index_oid is null
                then 'create index ' || index_name || ' on only ' || table_name || ' (checkpoint_id)'
            when relkind = 'r' and index_oid is null
                then 'create index concurrently ' || index_name || ' on ' || table_name || ' (checkpoint_id)'
            when relkind = 'r' and not whole and attached then 'reindex index concurrently ' || found_name
            when relkind = 'r' and not whole then 'drop index concurrently ' || found_name
            when level > 0 and not attached
                then 'alter index ' || above_name || ' attach partition ' || found_name
        end as statement
    from named
)
select statement, brief, table_name, (select count(*)::int from steps where statement is not null) as left_over
from steps
where statement is not null
order by level, relid
limit 1

-- name: progress
select phase, round(100.0 * blocks_done / nullif(blocks_total, 0))::int as percent
from pg_stat_progress_create_index
where datname = current_database() and (
    relid = to_regclass('checkpoints') or relid in (select t.relid from pg_partition_tree(to_regclass('checkpoints')) t)
)
limit 1

-- name: lock_patience
select set_config('lock_timeout', %(lock_timeout)s::text, false)

-- name: try_lock
select pg_try_advisory_lock(%(key)s::bigint) as locked

-- name: unlock
select pg_advisory_unlock(%(key)s::bigint) as unlocked
