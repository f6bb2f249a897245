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
