-- The one row of the webhook. It is the lock of who sends: `for update skip locked`, for moments, never during a request.

-- name: renew
-- Notices are written for another day from now on; nothing is written where that was said in the last hour. Times that
-- no release can have meant are left from a clock that was wrong, here as below. Never waits for the row.
with stale as (
    select only_row from resumed.webhook
    where wanted_until not between clock_timestamp() + interval '23 hours' and clock_timestamp() + interval '25 hours'
    for update skip locked
), renewed as (
    update resumed.webhook set wanted_until = clock_timestamp() + interval '1 day'
    where only_row in (select only_row from stale)
)
insert into resumed.webhook (wanted_until)
select clock_timestamp() + interval '1 day' where not exists (select from resumed.webhook)
on conflict do nothing

-- name: has_work
-- Whether there is anything to gather, or to send now. `open_circuits` are those that have been told, `live` the
-- workflows that any replica has.
select exists (select from resumed.notices) or (
        w.next_at not between clock_timestamp() and clock_timestamp() + interval '2 hours'
        and (w.body is not null or w.gathered <> '')
    ) as has_work, w.open_circuits,
    array(
        select distinct name from resumed.workflows where seen_at > clock_timestamp() - interval '1 minute' order by name
    ) as live
from resumed.webhook w

-- name: take
-- The row, locked until the transaction ends; no row where another replica has it.
select gathered, gathered_notices, message_id, body, message_notices, failures, open_circuits,
    next_at not between clock_timestamp() and clock_timestamp() + interval '2 hours' as is_due, clock_timestamp() as now
from resumed.webhook
for update skip locked

-- name: gather
select type, workflow, notices, first_at, last_at, threads
from resumed.forget_notices_v1(%(rows)s::int, %(threads)s::int)

-- name: keep
-- What the round leaves. Where a request is about to be made nobody makes another one until it has ended for certain.
update resumed.webhook
set gathered = %(gathered)s::text, gathered_notices = %(gathered_notices)s::bigint, message_id = %(message_id)s::text,
    body = %(body)s::text, message_notices = %(message_notices)s::bigint, open_circuits = %(open_circuits)s::text[],
    next_at = case when %(lease)s::interval is null then next_at else clock_timestamp() + %(lease)s::interval end

-- name: delivered
-- Assumes that the message is still this one.
update resumed.webhook
set message_id = null, body = null, message_notices = 0, failures = 0, failing_since = null, failure = null,
    next_at = clock_timestamp() + %(pause)s::interval
where message_id = %(message_id)s::text

-- name: failed
update resumed.webhook
set failures = failures + 1, failing_since = coalesce(failing_since, clock_timestamp()), failure = %(failure)s::text,
    next_at = clock_timestamp() + %(pause)s::interval
where message_id = %(message_id)s::text

-- name: standing
-- How it goes, for `doctor`; notices are counted as far as it matters.
select failures, failing_since, failure,
    gathered_notices + message_notices + (select count(*) from (select from resumed.notices limit 10000) as few) as waiting
from resumed.webhook

-- name: missing_rights
-- What the current role lacks to send: tables that it may not read or write, functions that it may not call.
select t.name from unnest(array['resumed.webhook', 'resumed.notices']) as t (name)
where not has_table_privilege(t.name, 'select') or (
    t.name = 'resumed.webhook' and not (has_table_privilege(t.name, 'insert') and has_table_privilege(t.name, 'update'))
)
union all
select f.name from unnest(array['resumed.forget_notices_v1(int, int)']) as f (name)
where not has_function_privilege(f.name, 'execute')
