-- What is pinned on each session after it was opened: a database or a role may have other defaults. One round trip.

-- name: settings
-- A session of ours: what a held lock depends on, what our SQL, LangGraph's and psycopg's parsing depend on, that
-- row-level security raises where it would hide a row, and that no query is compiled, which takes longer than any runs.
select set_config('row_security', 'off', false), set_config('jit', 'off', false),
    -- include: session_settings

-- name: renew
-- A session of ours for one attempt: no lock is left, and the settings are made, whatever was done on it before. Each of
-- its queries is about one thread and has an index: it needs no new plan for every thread, and a plan that was made
-- while a table was empty must not read the whole of it when it has grown.
select pg_advisory_unlock_all(), set_config('row_security', 'off', false), set_config('jit', 'off', false),
    set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false),
    -- include: session_settings

-- name: lent_settings
-- A session of a pool that an application saves and reads through: the same but for what row-level security hides, which
-- may be how the application keeps its tenants apart.
select
    -- include: session_settings
