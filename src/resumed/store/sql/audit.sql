-- Who asked for what, and why. Append only.

-- name: write
insert into resumed.audit (actor, action, thread_id, workflow, reason)
values (%(actor)s::text, %(action)s::text, %(thread_id)s::text, %(workflow)s::text, %(reason)s::text)

-- name: of_thread
select at, actor, action, thread_id, workflow, reason
from resumed.audit
where thread_id = %(thread)s::text
order by id

-- name: since
-- The commands since an instant, the newest first.
select at, actor, action, thread_id, workflow, reason
from resumed.audit
where at >= %(since)s::timestamptz
order by id desc
limit %(rows)s::int
