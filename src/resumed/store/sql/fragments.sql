-- What several queries share. `-- include: <name>` on a line of its own stands for the lines under that name.

-- name: case_columns
thread_id, workflow, version, verdict, reason, state, head, fingerprint, last_activity_at, first_seen_at, changed_at,
    due_at, next_look_at, attempts, consecutive, revision, head_seen_at, refused_by, refusal, refusal_reason, spent_by,
    own_head, cancelled_head, cancel_pending, pinned, suspect, quarantine_reason

-- name: case_row
-- A whole case, to be written over the revision that it was computed from; the first one only where there is none.
-- `claim`: 'keep' leaves a claim as it is, 'clear' releases it, 'take' claims the case.
insert into resumed.cases as c (thread_id, workflow, version, verdict, reason, state, head, fingerprint,
    last_activity_at, first_seen_at, head_seen_at, changed_at, due_at, next_look_at, attempts, consecutive, refused_by,
    refusal, refusal_reason, spent_by, own_head, cancelled_head, cancel_pending, pinned, suspect, quarantine_reason,
    revision, claimed_by, claimed_until)
select %(thread_id)s::text, %(workflow)s::text, %(version)s::text, %(verdict)s::text, %(reason)s::text,
    %(state)s::text, %(head)s::text, %(fingerprint)s::text, %(last_activity_at)s::timestamptz,
    %(first_seen_at)s::timestamptz, %(head_seen_at)s::timestamptz, %(changed_at)s::timestamptz,
    %(due_at)s::timestamptz, %(next_look_at)s::timestamptz, %(attempts)s::int, %(consecutive)s::int,
    %(refused_by)s::text[], %(refusal)s::text, %(refusal_reason)s::text, %(spent_by)s::text[], %(own_head)s::text,
    %(cancelled_head)s::text, %(cancel_pending)s::boolean, %(pinned)s::boolean, %(suspect)s::boolean,
    %(quarantine_reason)s::text, %(revision)s::int, %(claimant)s::text,
    case when %(claim)s::text = 'take' then clock_timestamp() + interval '30 seconds' end

-- name: claimable
-- A case that is due and that nothing keeps the wanted workflow `w` from, its version apart.
c.thread_id, c.workflow, c.suspect, c.due_at, w.room from resumed.cases c
where c.workflow = w.workflow and c.suspect = w.suspect and c.state in ('due', 'backoff')
and c.due_at <= (select coalesce(%(due_by)s::timestamptz, clock_timestamp()))
and (c.claimed_until is null or c.claimed_until < (select clock_timestamp()))
and w.version <> all (c.refused_by || c.spent_by)
and c.cancelled_head is distinct from c.head and not c.cancel_pending

-- name: over_its_revision
-- No row comes back where the case was written since.
on conflict (thread_id) do update set workflow = excluded.workflow, version = excluded.version,
    verdict = excluded.verdict, reason = excluded.reason, state = excluded.state, head = excluded.head,
    fingerprint = excluded.fingerprint, last_activity_at = excluded.last_activity_at,
    first_seen_at = excluded.first_seen_at, head_seen_at = excluded.head_seen_at, changed_at = excluded.changed_at,
    due_at = excluded.due_at, next_look_at = excluded.next_look_at, attempts = excluded.attempts,
    consecutive = excluded.consecutive, refused_by = excluded.refused_by, refusal = excluded.refusal,
    refusal_reason = excluded.refusal_reason, spent_by = excluded.spent_by, own_head = excluded.own_head,
    cancelled_head = excluded.cancelled_head, cancel_pending = excluded.cancel_pending, pinned = excluded.pinned,
    suspect = excluded.suspect, quarantine_reason = excluded.quarantine_reason, revision = excluded.revision,
    claimed_by = case when %(claim)s::text = 'keep' then c.claimed_by else excluded.claimed_by end,
    claimed_until = case when %(claim)s::text = 'keep' then c.claimed_until else excluded.claimed_until end,
    updated_at = clock_timestamp()
where c.revision = excluded.revision - 1
returning thread_id

-- name: attempt_end
update resumed.attempts
set finished_at = clock_timestamp(), closed_by = %(closed_by)s::text, outcome = %(outcome)s::text,
    advanced = %(advanced)s::boolean,
    charged = %(charged)s::boolean, after = %(after)s::text, error_type = %(error_type)s::text,
    error_at = %(error_at)s::text, error = %(error)s::text

-- name: attempt_columns
thread_id, attempt, workflow, version, worker, started_at, finished_at, outcome, advanced, before, after, error_type,
    error_at, error, closed_by

-- name: held_keys
-- The keys of the advisory locks of this database that are held, as one 64-bit number each, and by which backend.
select (l.classid::bigint << 32) | l.objid::bigint as key, l.pid
from pg_locks l
where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
and l.database = (select d.oid from pg_database d where d.datname = current_database())

-- name: window_rows
-- One page of the window over checkpoint ids. With ties, so that the rows of one id (a copied thread keeps its ids) are
-- never cut in two.
select thread_id, checkpoint_id
from checkpoints
where checkpoint_id > %(after)s::text and checkpoint_id < %(upper)s::text
order by checkpoint_id
fetch first (%(rows)s::int) rows with ties

-- name: transaction_id
-- The transaction that wrote a row, in full: `xmin` has the lower half of it.
(select pg_snapshot_xmax(pg_current_snapshot())::text::bigint)
    - ((select pg_snapshot_xmax(pg_current_snapshot())::text::bigint) - xmin::text::bigint) %% 4294967296

-- name: judged_below
-- Below which transaction id all rows under this checkpoint id were judged; null where none were.
greatest(
    case when checkpoint_id > %(after_1)s::text and checkpoint_id < %(upper_1)s::text then %(horizon_1)s::bigint end,
    case when checkpoint_id > %(after_2)s::text and checkpoint_id < %(upper_2)s::text then %(horizon_2)s::bigint end
)

-- name: session_settings
-- What is pinned on every session, ours and an application's. `transaction_timeout` came with PostgreSQL 17.
set_config('statement_timeout', '60000', false), set_config('lock_timeout', '10000', false),
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
