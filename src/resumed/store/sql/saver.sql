-- The one statement in which an attempt's checkpointer differs from LangGraph's.

-- name: upsert_checkpoint
-- Compare and set: a root checkpoint is saved only while its parent is still the head. Raised inside the statement, the
-- refusal takes the blobs of the same pipeline back with it. The parameters and their order are LangGraph's.
insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
select v.thread, v.namespace, v.checkpoint, v.parent, v.body, v.metadata
from (values (%s::text, %s::text, %s::text, %s::text, %s::jsonb, %s::jsonb))
    as v (thread, namespace, checkpoint, parent, body, metadata)
where resumed.require_head_v1(v.thread, v.namespace, v.parent, v.checkpoint)
on conflict (thread_id, checkpoint_ns, checkpoint_id)
do update set checkpoint = excluded.checkpoint, metadata = excluded.metadata
