-- What is pinned on each session after it was opened: a database or a role may have other defaults. One round trip.

-- name: settings
-- A session of ours: what a held lock depends on, what our SQL, LangGraph's and psycopg's parsing depend on, and that
-- row-level security raises where it would hide a row. `transaction_timeout` came with PostgreSQL 17.
select set_config('statement_timeout', '60000', false), set_config('lock_timeout', '10000', false),
    set_config('idle_session_timeout', '0', false), set_config('idle_in_transaction_session_timeout', '0', false),
    case when current_setting('server_version_num')::int >= 170000
        then set_config('transaction_timeout', '0', false) end,
    set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '3', false),
    set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '15000', false),
    set_config('client_encoding', %(encoding)s::text, false), set_config('timezone', 'UTC', false),
    set_config('datestyle', 'ISO, MDY', false), set_config('intervalstyle', 'postgres', false),
    set_config('bytea_output', 'hex', false), set_config('extra_float_digits', '1', false),
    set_config('standard_conforming_strings', 'on', false), set_config('array_nulls', 'on', false),
    set_config('transform_null_equals', 'off', false), set_config('quote_all_identifiers', 'off', false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('default_transaction_deferrable', 'off', false), set_config('row_security', 'off', false),
    set_config('search_path', quote_ident(%(schema)s::text), false)

-- name: renew
-- A session of ours that has been used: no lock is left, and the settings are made again, whatever was done on it.
select pg_advisory_unlock_all(), set_config('statement_timeout', '60000', false), set_config('lock_timeout', '10000', false),
    set_config('idle_session_timeout', '0', false), set_config('idle_in_transaction_session_timeout', '0', false),
    case when current_setting('server_version_num')::int >= 170000
        then set_config('transaction_timeout', '0', false) end,
    set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '3', false),
    set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '15000', false),
    set_config('client_encoding', %(encoding)s::text, false), set_config('timezone', 'UTC', false),
    set_config('datestyle', 'ISO, MDY', false), set_config('intervalstyle', 'postgres', false),
    set_config('bytea_output', 'hex', false), set_config('extra_float_digits', '1', false),
    set_config('standard_conforming_strings', 'on', false), set_config('array_nulls', 'on', false),
    set_config('transform_null_equals', 'off', false), set_config('quote_all_identifiers', 'off', false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('default_transaction_deferrable', 'off', false), set_config('row_security', 'off', false),
    set_config('search_path', quote_ident(%(schema)s::text), false)

-- name: lent_settings
-- A session of a pool that an application saves and reads through: the same but for what row-level security hides, which
-- may be how the application keeps its tenants apart.
select set_config('statement_timeout', '60000', false), set_config('lock_timeout', '10000', false),
    set_config('idle_session_timeout', '0', false), set_config('idle_in_transaction_session_timeout', '0', false),
    case when current_setting('server_version_num')::int >= 170000
        then set_config('transaction_timeout', '0', false) end,
    set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '3', false),
    set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '15000', false),
    set_config('client_encoding', %(encoding)s::text, false), set_config('timezone', 'UTC', false),
    set_config('datestyle', 'ISO, MDY', false), set_config('intervalstyle', 'postgres', false),
    set_config('bytea_output', 'hex', false), set_config('extra_float_digits', '1', false),
    set_config('standard_conforming_strings', 'on', false), set_config('array_nulls', 'on', false),
    set_config('transform_null_equals', 'off', false), set_config('quote_all_identifiers', 'off', false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('default_transaction_deferrable', 'off', false),
    set_config('search_path', quote_ident(%(schema)s::text), false)
