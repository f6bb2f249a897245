-- The gauges of the whole database, the same on every replica.

-- name: threads
select coalesce(workflow, '') as workflow, state, verdict, count(*)::int as threads,
    count(*) filter (where state in ('due', 'backoff') and due_at <= clock_timestamp())::int as due,
    min(last_activity_at) as oldest_at
from resumed.cases
where state <> 'closed'
group by 1, 2, 3
