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
-- Who only reads needs no rights to write. LangGraph's schema is the one that the search_path names.
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
    where n.nspname = 'resumed' and p.pronamespace = n.oid
)
select upper(array_to_string(rights, ', ')) || ' on ' || thing as missing
from things
where cardinality(rights) > 0
order by kind, thing

-- name: indexes
-- Indexes whose first column is checkpoints.checkpoint_id, ours or anybody's, whole or half built.
select c.relname as name, i.indisvalid and i.indisready as valid
from pg_index i
join pg_class c on c.oid = i.indexrelid
join pg_am m on m.oid = c.relam and m.amname = 'btree'
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
where i.indrelid = to_regclass('checkpoints') and a.attname = 'checkpoint_id' and i.indpred is null
order by 1

-- name: build_index
create index concurrently if not exists resumed_checkpoint_id_idx on checkpoints (checkpoint_id)

-- name: drop_index
drop index concurrently if exists resumed_checkpoint_id_idx

-- name: progress
select phase, round(100.0 * blocks_done / nullif(blocks_total, 0))::int as percent
from pg_stat_progress_create_index
where datname = current_database() and relid = to_regclass('checkpoints')
limit 1

-- name: try_lock
select pg_try_advisory_lock(%(key)s::bigint) as locked

-- name: unlock
select pg_advisory_unlock(%(key)s::bigint) as unlocked
