-- Who did what, why, and through what. Append only.

-- name: write
insert into resumed.audit (actor, action, thread_id, workflow, reason, via)
values (%(actor)s::text, %(action)s::text, %(thread_id)s::text, %(workflow)s::text, %(reason)s::text, %(via)s::text)

-- name: of_thread
select at, actor, action, thread_id, workflow, reason, via
from resumed.audit
where thread_id = %(thread)s::text
order by id

-- name: since
-- What was done since an instant, the newest first.
select at, actor, action, thread_id, workflow, reason, via
from resumed.audit
where at >= %(since)s::timestamptz
order by id desc
limit %(rows)s::int

-- name: newest_id
select coalesce(max(id), 0) as id from resumed.audit

-- name: newest_ids
select id from resumed.audit order by id desc limit %(rows)s::int

-- name: after
select id, action, via from resumed.audit where id > %(id)s::bigint order by id limit %(rows)s::int

-- name: writers
-- Every transaction that inserts takes this lock before its first row gets an id, and keeps it to its end.
select distinct virtualtransaction as writer
from pg_locks
where locktype = 'relation' and granted and mode = 'RowExclusiveLock' and relation = 'resumed.audit'::regclass
and database = (select oid from pg_database where datname = current_database())
