-- What an operator's command writes into a case, beside its placement, after `lock`.

-- name: lock
-- Locks the rows until the transaction ends, always in the same order.
select thread_id from resumed.cases
where thread_id = any (%(threads)s::text[])
order by thread_id
for update

-- name: cancel
-- The head on record is never resumed.
update resumed.cases
set cancelled_head = head, claimed_until = null, claimed_by = null, revision = revision + 1,
    updated_at = clock_timestamp()
where thread_id = %(thread)s::text

-- name: cancel_running
-- An attempt of ours runs on it: the head where that stops will be the cancelled one.
update resumed.cases
set cancel_pending = true, revision = revision + 1, updated_at = clock_timestamp()
where thread_id = %(thread)s::text

-- name: pin
-- A person has put it into quarantine; only a person releases it.
update resumed.cases
set pinned = true, claimed_until = null, claimed_by = null, revision = revision + 1, updated_at = clock_timestamp()
where thread_id = %(thread)s::text

-- name: release
-- Out of quarantine: all attempts are allowed again, and no version's refusal counts any more.
update resumed.cases
set pinned = false, suspect = false, attempts = 0, consecutive = 0, spent_by = '{}', refused_by = '{}', refusal = null,
    refusal_reason = null, claimed_until = null, claimed_by = null, revision = revision + 1,
    updated_at = clock_timestamp()
where thread_id = any (%(threads)s::text[])

-- name: backdate
-- Threads of old, taken in: they count as seen when they last saved, so that they do not expire.
update resumed.cases
set first_seen_at = least(first_seen_at, last_activity_at), revision = revision + 1, updated_at = clock_timestamp()
where thread_id = any (%(threads)s::text[])

-- name: count_due
-- How many of a workflow are due now, counted as far as it matters.
select count(*)::int as threads from (
    select from resumed.cases
    where workflow = %(workflow)s::text and state in ('due', 'backoff') and due_at <= clock_timestamp()
    limit 1000
) due

-- name: in_quarantine
select count(*)::int as threads from resumed.cases
where state = 'quarantined' and (%(workflow)s::text is null or workflow = %(workflow)s::text)

-- name: quarantine_page
select thread_id from resumed.cases
where state = 'quarantined' and (%(workflow)s::text is null or workflow = %(workflow)s::text)
and thread_id > %(after)s::text
order by thread_id
limit %(rows)s::int

-- name: stops
-- Which of these threads a person has quarantined or cancelled, and whether it was cancelled.
select thread_id, cancel_pending as cancelled from resumed.cases
where thread_id = any (%(threads)s::text[]) and (pinned or cancel_pending)

-- name: resolve_cancel
-- An attempt that was left open is closed: where it stopped is the cancelled head.
update resumed.cases
set cancelled_head = coalesce(%(head)s::text, cancelled_head), cancel_pending = false, revision = revision + 1,
    updated_at = clock_timestamp()
where thread_id = %(thread)s::text and cancel_pending
