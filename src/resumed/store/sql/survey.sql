-- What `survey` reads of LangGraph's tables. It needs SELECT on them and nothing else: no schema and no index of ours.

-- name: relations
-- Rows, as the planner knows them, and bytes of each table with its indexes and TOAST, partitions added up. `rows` is
-- null for a table that was never analysed.
with recursive parts (name, oid) as (
    select t.name, to_regclass(t.name)::oid
    from unnest(array['checkpoints', 'checkpoint_blobs', 'checkpoint_writes']) as t (name)
    union all
    select parts.name, i.inhrelid from parts join pg_inherits i on i.inhparent = parts.oid
)
select parts.name,
    case when bool_and(c.reltuples >= 0 or c.relkind = 'p')
        then sum(greatest(c.reltuples, 0)) filter (where c.relkind <> 'p')::bigint end as rows,
    sum(pg_total_relation_size(c.oid))::bigint as bytes,
    sum(pg_relation_size(c.oid))::bigint as heap_bytes
from parts join pg_class c on c.oid = parts.oid
group by parts.name
order by parts.name

-- name: distinct_threads
-- How many threads the planner believes there are; a negative figure is a share of the rows.
select max(abs(n_distinct)) filter (where n_distinct < 0)::float8 as share, max(n_distinct)::float8 as number
from pg_stats
where schemaname = (select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.oid = to_regclass('checkpoints'))
    and tablename = 'checkpoints' and attname = 'thread_id'

-- name: page
-- The next threads in the order of their ids, with their oldest and newest checkpoint over all namespaces. Walks the
-- primary key, which is all that a page costs.
select thread_id, min(checkpoint_id) as oldest, max(checkpoint_id) as newest
from checkpoints
where thread_id > %(after)s::text
group by thread_id
order by thread_id
limit %(threads)s::int

-- name: first_page
-- As `page`, from the beginning: an empty thread id is one, too.
select thread_id, min(checkpoint_id) as oldest, max(checkpoint_id) as newest
from checkpoints
group by thread_id
order by thread_id
limit %(threads)s::int

-- name: sample
-- A share of all threads, each as likely as any other: a thread has one root checkpoint without a parent.
select distinct thread_id
from checkpoints tablesample system (%(percent)s::float8)
where checkpoint_ns = '' and parent_checkpoint_id is null
limit %(threads)s::int

-- name: ages
-- The oldest and newest checkpoint of these threads.
select thread_id, min(checkpoint_id) as oldest, max(checkpoint_id) as newest
from checkpoints
where thread_id = any (%(threads)s::text[])
group by thread_id

-- name: errors
-- The tasks of these heads that raised: the beginning of the error's repr, of which only the class is kept; none where
-- the serializer is not LangGraph's own.
select w.thread_id, case when w.type = 'msgpack' then substring(w.blob from 1 for 120) else ''::bytea end as said
from unnest(%(threads)s::text[], %(heads)s::text[]) as h (thread_id, head)
join checkpoint_writes w on w.thread_id = h.thread_id and w.checkpoint_ns = '' and w.checkpoint_id = h.head
where w.channel = '__error__'
