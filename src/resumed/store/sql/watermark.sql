-- How far the sweep has looked.

-- name: ensure
-- The first replica ever to sweep begins at now - max_age.
insert into resumed.watermarks (name, position, wide_at, updated_at, checkpoint_schema)
values ('checkpoints', %(position)s::timestamptz, '-infinity', clock_timestamp(),
    (parse_ident(current_setting('search_path')))[1])
on conflict do nothing

-- name: take
-- The row is the lock: no row means that another replica sweeps at this moment.
-- `horizon`: every transaction below this id has ended.
select position, coalesce(nullif(wide_at, '-infinity'), 'epoch'::timestamptz) as wide_at,
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint as horizon
from resumed.watermarks
where name = 'checkpoints'
for update skip locked

-- name: move
update resumed.watermarks
set position = %(position)s::timestamptz, wide_at = %(wide_at)s::timestamptz, updated_at = clock_timestamp()
where name = 'checkpoints'

-- name: other_schema
-- The schema of LangGraph's tables that this database's cases are about, where it is not the one on the search_path.
select checkpoint_schema from resumed.watermarks
where checkpoint_schema <> (parse_ident(current_setting('search_path')))[1]
limit 1

-- name: position
select position from resumed.watermarks where name = 'checkpoints'

-- name: clock
select coalesce(%(now)s::timestamptz, clock_timestamp()) as now

-- name: uptime
select clock_timestamp() - pg_postmaster_start_time() as uptime
