-- LangGraph's own migrations: how far they have come, and the lock under which one process makes them.

-- name: have
select to_regclass('checkpoint_migrations') is not null as have

-- name: version
select max(v) as version from checkpoint_migrations

-- name: unlimited
-- An index on tables that are in use may take its time.
select set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)

-- name: try_lock
select pg_try_advisory_lock(%(key)s::bigint) as locked

-- name: unlock
select pg_advisory_unlock(%(key)s::bigint) as unlocked

-- name: search_path
-- Where a session that serves LangGraph's own checkpointer finds its tables.
select set_config('search_path', quote_ident(%(schema)s::text), false)
