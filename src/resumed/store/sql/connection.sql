-- What is pinned on each session after it was opened: a database or a role may have other defaults. One round trip.

-- name: settings
-- A session of ours: what a held lock depends on, what our SQL, LangGraph's and psycopg's parsing depend on, and that
-- row-level security raises where it would hide a row.
select set_config('row_security', 'off', false),
    -- include: session_settings

-- name: renew
-- A session of ours for one attempt: no lock is left, and the settings are made, whatever was done on it before. All its
-- queries are about one thread, so that their plans need not be made anew for each.
select pg_advisory_unlock_all(), set_config('row_security', 'off', false),
    set_config('plan_cache_mode', 'force_generic_plan', false),
    -- include: session_settings

-- name: lent_settings
-- A session of a pool that an application saves and reads through: the same but for what row-level security hides, which
-- may be how the application keeps its tenants apart.
select
    -- include: session_settings
