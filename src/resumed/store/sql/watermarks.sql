-- How far the sweep has looked.

-- name: ensure
-- The first replica ever to sweep begins at now - max_age.
insert into resumed.watermarks (name, position, wide_at, updated_at)
values ('checkpoints', %(position)s::timestamptz, '-infinity', clock_timestamp())
on conflict do nothing

-- name: take
-- The row is the lock: no row means that another replica sweeps at this moment.
select position, coalesce(nullif(wide_at, '-infinity'), 'epoch'::timestamptz) as wide_at
from resumed.watermarks
where name = 'checkpoints'
for update skip locked

-- name: move
update resumed.watermarks
set position = %(position)s::timestamptz, wide_at = %(wide_at)s::timestamptz, updated_at = clock_timestamp()
where name = 'checkpoints'

-- name: position
select position from resumed.watermarks where name = 'checkpoints'

-- name: clock
select coalesce(%(now)s::timestamptz, clock_timestamp()) as now

-- name: uptime
select clock_timestamp() - pg_postmaster_start_time() as uptime
