-- Questions that a thread's tasks have asked, and answers that were given: still serialised, with their order.

-- name: rows
-- On the head, and on the checkpoints of child namespaces that are newer than it. A transaction id is younger the
-- smaller its age. `output_order` is when the same task last saved ordinary writes (`__no_writes__` means that it has
-- finished without any; those of a failed `update_state` are not its own), `failed` that it has an error.
-- `left_behind`: the subgraph is at a later superstep, and only the rows of this one were lost, or a person's edit has
-- moved it there: its tasks have other ids from then on, and that question is not asked any more.
with looked_at as (
    select '' as checkpoint_ns, %(head)s::text as checkpoint_id
    union all
    select c.checkpoint_ns, c.checkpoint_id from checkpoints c
    where c.thread_id = %(thread)s::text and c.checkpoint_ns > '' and c.checkpoint_id > %(head)s::text
)
select w.checkpoint_ns, w.checkpoint_id, w.task_id, w.channel, w.type, w.blob, -age(w.xmin) as "order",
    task.output_order, task.failed,
    w.checkpoint_ns > '' and exists (
        select from checkpoints later
        where later.thread_id = w.thread_id and later.checkpoint_ns = w.checkpoint_ns
        and later.checkpoint_id > w.checkpoint_id and later.metadata ->> 'source' in ('loop', 'update', 'fork')
    ) as left_behind,
    w.task_path
from looked_at l
join checkpoint_writes w on w.thread_id = %(thread)s::text and w.checkpoint_ns = l.checkpoint_ns
    and w.checkpoint_id = l.checkpoint_id
cross join lateral (
    select max(-age(o.xmin)) filter (
            where o.channel <> all (%(control)s::text[]) and not starts_with(o.task_path, '~__interrupt__, ')
        ) as output_order,
        coalesce(bool_or(o.channel = '__error__') and not bool_or(o.channel = '__error_source_node__'), false) as failed
    from checkpoint_writes o
    where o.thread_id = w.thread_id and o.checkpoint_ns = w.checkpoint_ns and o.checkpoint_id = w.checkpoint_id
    and o.task_id = w.task_id
) as task
where w.channel in ('__interrupt__', '__resume__')
