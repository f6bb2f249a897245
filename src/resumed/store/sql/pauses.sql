-- The kill switch. The empty name stands for every workflow.

-- name: pause
-- A pause that stands keeps its beginning; who says so last, and why, replaces what was said before.
insert into resumed.pauses as p (workflow, paused, actor, reason, since)
values (%(workflow)s::text, true, %(actor)s::text, %(reason)s::text, clock_timestamp())
on conflict (workflow) do update set paused = true, actor = excluded.actor, reason = excluded.reason,
    since = case when p.paused then p.since else excluded.since end
returning since < statement_timestamp() as stood

-- name: unpause
-- Assumes that it is paused; gives no row where it is not.
update resumed.pauses
set paused = false, actor = %(actor)s::text, reason = '', since = clock_timestamp()
where workflow = %(workflow)s::text and paused
returning workflow

-- name: in_force
select workflow, actor, reason, since from resumed.pauses where paused order by workflow
