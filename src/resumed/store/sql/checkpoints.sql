-- Reads LangGraph's tables, never writes them, never touches checkpoint_blobs. The schema is on the search_path.

-- name: window_page
-- The threads of one page of the window over checkpoint ids, with the page's size and its last id.
with page as materialized (
    -- include: window_rows
)
select thread_id, max(checkpoint_id) as last_id, count(*)::int as rows
from page
group by thread_id

-- name: window_news
-- As window_page, and of each thread whether anything of it is new since the ids of its rows were last judged: a row of
-- the page, what was saved on a child's row there, or on the newest root checkpoint.
with page as materialized (
    select thread_id, checkpoint_ns, checkpoint_id,
        -- include: transaction_id
        as transaction_id,
        case when checkpoint_ns > '' then (
            select max(
                -- include: transaction_id
            ) from checkpoint_writes w
            where w.thread_id = k.thread_id and w.checkpoint_ns = k.checkpoint_ns and w.checkpoint_id = k.checkpoint_id
        ) end as written_by,
        -- include: judged_below
        as judged_below
    from checkpoints k
    where checkpoint_id > %(after)s::text and checkpoint_id < %(upper)s::text
    order by checkpoint_id
    fetch first (%(rows)s::int) rows with ties
), threads as materialized (
    select thread_id, max(checkpoint_id) as last_id, count(*)::int as rows,
        max(checkpoint_id) filter (where checkpoint_ns = '') as root_id, min(judged_below) as judged_below,
        bool_or(judged_below is null or greatest(transaction_id, written_by) >= judged_below) as news
    from page
    group by thread_id
)
select thread_id, last_id, rows, news or exists (
    select from checkpoint_writes w
    where w.thread_id = t.thread_id and w.checkpoint_ns = '' and w.checkpoint_id = coalesce(t.root_id, (
        select k.checkpoint_id from checkpoints k where k.thread_id = t.thread_id and k.checkpoint_ns = ''
        order by k.checkpoint_id desc
        limit 1
    ))
    and (
        -- include: transaction_id
    ) >= t.judged_below
) as news
from threads t

-- name: metadata
-- What the call of one root checkpoint left in its metadata; for a factory that is called for its thread.
select metadata
from checkpoints
where thread_id = %(thread)s::text and checkpoint_ns = '' and checkpoint_id = %(checkpoint)s::text

-- name: window_ends
-- As window_page, and of each thread whether it ends there: has no newer checkpoint in the window. So each thread of
-- the window ends in one page, and pages come in the order in which threads became quiet.
with page as materialized (
    -- include: window_rows
)
select thread_id, max(checkpoint_id) as last_id, count(*)::int as rows, not exists (
    select from checkpoints newer
    where newer.thread_id = page.thread_id and newer.checkpoint_id > (select max(checkpoint_id) from page)
    and newer.checkpoint_id < %(upper)s::text
) as ends
from page
group by thread_id

-- name: cases_outside
-- Open cases of threads without a checkpoint in the window, the longest quiet first.
select c.thread_id, c.last_activity_at
from resumed.cases c
where c.state <> 'closed'
and (%(quiet_since)s::timestamptz is null
    or (c.last_activity_at, c.thread_id) > (%(quiet_since)s::timestamptz, %(thread)s::text))
and not exists (
    select from checkpoints k
    where k.thread_id = c.thread_id and k.checkpoint_id > %(after)s::text and k.checkpoint_id < %(upper)s::text
)
order by c.last_activity_at, c.thread_id
limit %(rows)s::int

-- name: timeless
-- Threads whose head has an id that tells no time and is not the one on record: the window can never show them. Asked
-- for each by itself: of `not exists` the planner may make a join with the whole table, where it expects many.
select distinct odd.thread_id
from checkpoints odd
where (odd.checkpoint_id < %(lowest)s::text or odd.checkpoint_id > %(highest)s::text) and odd.checkpoint_ns = ''
and (select true from resumed.cases c where c.thread_id = odd.thread_id and c.head = odd.checkpoint_id) is null
and (
    select true from checkpoints newer
    where newer.thread_id = odd.thread_id and newer.checkpoint_ns = '' and newer.checkpoint_id > odd.checkpoint_id
    limit 1
) is null
limit %(rows)s::int

-- name: heads
-- The newest root checkpoint of each thread. `|| ''` keeps the planner from walking the index on checkpoint_id
-- backwards through every newer row of other threads to find the maximum of one. `edited_inside`: the subgraphs that a
-- person has edited since, where neither the subgraph nor what it calls has run on, and no graph that calls it has
-- left that run of it behind. Rows whose path begins with `~__interrupt__` are no task's: `update_state` saves them before
-- it applies them, and they stay where it fails.
-- `control_rows` say why the head stopped: those on it and on newer checkpoints of child namespaces, each an array in
-- the order of the fields of `ControlRow`. A transaction id is younger the smaller its age; LangGraph's rows have no
-- time of their own. A row has output also where the rows of a subgraph's superstep were lost, but not the checkpoint
-- that came of it, and where a person's edit has taken the subgraph away from what it asked; not where the edit has
-- failed and only its own rows are there.
select
    t.thread_id,
    head.checkpoint_id,
    newest.checkpoint_id as newest_id,
    newest.stateful as has_stateful,
    coalesce(head.metadata ->> 'step' = '-2' and head.metadata ->> 'source' is null, false) as stub,
    left(head.metadata ->> 'source', 20) as source,
    case when jsonb_typeof(head.checkpoint -> 'updated_channels') = 'array'
        then array(
            select e.channel from jsonb_array_elements_text(head.checkpoint -> 'updated_channels') e (channel)
            where e.channel is not null
        ) end as updated_channels,
    array(
        select distinct w.channel from checkpoint_writes w
        where w.thread_id = t.thread_id and w.checkpoint_ns = '' and w.checkpoint_id = head.checkpoint_id
        and w.task_id = '00000000-0000-0000-0000-000000000000'
    ) as null_channels,
    left(head.metadata ->> 'workflow', 200) as metadata_workflow,
    left(head.metadata ->> 'graph_id', 200) as metadata_graph,
    nullif(left(head.metadata ->> 'version', 200), '') as metadata_version,
    left(head.metadata ->> 'attempt', 20) as metadata_attempt,
    left(head.metadata ->> 'resumed_run', 40) as metadata_run,
    exists (
        select from checkpoint_writes w
        where w.thread_id = t.thread_id and w.checkpoint_ns = '' and w.checkpoint_id = head.checkpoint_id
        and w.task_id <> '00000000-0000-0000-0000-000000000000' and not starts_with(w.task_path, '~__interrupt__, ')
    ) or newest.checkpoint_id > head.checkpoint_id and exists (
        select from checkpoints c
        where c.thread_id = t.thread_id and c.checkpoint_ns > '' and c.checkpoint_id > head.checkpoint_id
        and coalesce(c.metadata ->> 'source', '') not in ('update', 'fork')
        and coalesce(c.metadata -> 'parents' ->> '', head.checkpoint_id) >= head.checkpoint_id
    ) as ran_since,
    array(
        select c.checkpoint_ns from checkpoints c
        where newest.checkpoint_id > head.checkpoint_id
        and c.thread_id = t.thread_id and c.checkpoint_ns > '' and c.checkpoint_id > head.checkpoint_id
        and c.metadata ->> 'source' in ('update', 'fork')
        and not exists (
            select from checkpoints later
            where later.thread_id = c.thread_id and later.checkpoint_ns > '' and later.checkpoint_id > c.checkpoint_id
            and (
                later.checkpoint_ns = c.checkpoint_ns
                or starts_with(c.checkpoint_ns, later.checkpoint_ns || '|')
                or starts_with(later.checkpoint_ns, c.checkpoint_ns || '|')
                and coalesce(later.metadata ->> 'source', '') not in ('update', 'fork')
            )
        )
        and not exists (
            select from checkpoint_writes w
            where w.thread_id = c.thread_id and w.checkpoint_ns = c.checkpoint_ns
            and w.checkpoint_id = c.checkpoint_id and w.task_id <> '00000000-0000-0000-0000-000000000000'
            and not starts_with(w.task_path, '~__interrupt__, ')
        )
        order by c.checkpoint_ns
    ) as edited_inside,
    (
        select count(*)::int from checkpoint_writes w
        where w.thread_id = t.thread_id and w.task_id <> '00000000-0000-0000-0000-000000000000'
        and not starts_with(w.task_path, '~__interrupt__, ')
        and (w.checkpoint_ns = '' and w.checkpoint_id = head.checkpoint_id
            or w.checkpoint_ns > '' and newest.checkpoint_id > head.checkpoint_id
            and w.checkpoint_id > head.checkpoint_id)
    ) as saved_since,
    array(
        select array[w.checkpoint_ns, w.checkpoint_id, w.task_id, w.channel, (-age(w.xmin))::text, w.xmin::text,
            (w.channel = '__error__' and w.type = 'msgpack' and octet_length(w.blob) = 17
                and w.blob = %(cancelled)s::bytea)::text,
            (output."order" is not null or (w.checkpoint_ns > '' and exists (
                select from checkpoints later
                where later.thread_id = w.thread_id and later.checkpoint_ns = w.checkpoint_ns
                and later.checkpoint_id > w.checkpoint_id and later.metadata ->> 'source' in ('loop', 'update', 'fork')
            )))::text,
            output."order"::text, left(w.task_path, 200)]
        from (
            select '' as checkpoint_ns, head.checkpoint_id
            union all
            select c.checkpoint_ns, c.checkpoint_id from checkpoints c
            where newest.checkpoint_id > head.checkpoint_id
            and c.thread_id = t.thread_id and c.checkpoint_ns > '' and c.checkpoint_id > head.checkpoint_id
        ) as l
        join checkpoint_writes w on w.thread_id = t.thread_id and w.checkpoint_ns = l.checkpoint_ns
            and w.checkpoint_id = l.checkpoint_id
        cross join lateral (
            select max(-age(o.xmin)) as "order" from checkpoint_writes o
            where o.thread_id = w.thread_id and o.checkpoint_ns = w.checkpoint_ns
            and o.checkpoint_id = w.checkpoint_id and o.task_id = w.task_id
            and o.channel <> all (%(channels)s::text[]) and not starts_with(o.task_path, '~__interrupt__, ')
        ) as output
        where w.channel = any (%(channels)s::text[]) or w.task_id = '00000000-0000-0000-0000-000000000000'
    ) as control_rows
from unnest(%(threads)s::text[]) as t (thread_id)
cross join lateral (
    select c.checkpoint_id, c.checkpoint, c.metadata from checkpoints c
    where c.thread_id = t.thread_id and c.checkpoint_ns = ''
    order by c.checkpoint_id desc limit 1
) as head
cross join lateral (
    select max(c.checkpoint_id || '') as checkpoint_id,
        bool_or(c.checkpoint_ns > '' and strpos(c.checkpoint_ns, ':') = 0) as stateful
    from checkpoints c where c.thread_id = t.thread_id
) as newest

-- name: root_head
-- The id of the newest root checkpoint of one thread.
select checkpoint_id from checkpoints
where thread_id = %(thread)s::text and checkpoint_ns = '' order by checkpoint_id desc limit 1

-- name: children
-- The newest checkpoint of each child namespace that has one newer than the head, with the checkpoints at which the
-- graphs above it stood.
select distinct on (checkpoint_ns) checkpoint_ns, checkpoint_id,
    case when jsonb_typeof(metadata -> 'parents') = 'object' then metadata -> 'parents' else '{}' end as parents
from checkpoints
where thread_id = %(thread)s::text and checkpoint_ns > '' and checkpoint_id > %(head)s::text
order by checkpoint_ns, checkpoint_id desc

-- name: stateful
-- The newest checkpoint of each namespace that names no task: of a subgraph that keeps its own state between runs.
select checkpoint_ns, max(checkpoint_id) as checkpoint_id from checkpoints
where thread_id = %(thread)s::text and checkpoint_ns > '' and strpos(checkpoint_ns, ':') = 0
group by checkpoint_ns

-- name: history
-- The checkpoints of one thread, newest first, for a person to read; no values.
select checkpoint_ns, checkpoint_id, parent_checkpoint_id, left(metadata ->> 'source', 20) as source,
    left(metadata ->> 'step', 20) as step
from checkpoints
where thread_id = %(thread)s::text
order by checkpoint_id desc
limit %(rows)s::int

-- name: formats
-- The version of the format of each of these checkpoints, and whether its graph is a low-level `Pregel`: any other
-- writes its input to `__start__`, and asks for nodes in `branch:to:` channels.
select c.thread_id, coalesce(c.checkpoint ->> 'v', '') as version,
    case when jsonb_typeof(c.checkpoint -> 'channel_versions') = 'object' then not exists (
        select from jsonb_object_keys(c.checkpoint -> 'channel_versions') k (channel)
        where k.channel = '__start__' or starts_with(k.channel, 'branch:to:')
    ) else false end as low_level
from unnest(%(threads)s::text[], %(heads)s::text[]) as h (thread_id, head)
join checkpoints c on c.thread_id = h.thread_id and c.checkpoint_ns = '' and c.checkpoint_id = h.head
