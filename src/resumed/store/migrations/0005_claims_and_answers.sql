-- Due cases of one workflow and version, oldest first: what another version has to take must not lie in the way.

create index cases_due_by_version_idx on resumed.cases (workflow, suspect, version, due_at, thread_id)
    where state in ('due', 'backoff');

-- The threads that wait for a person, to be asked in turn whether an answer was saved.
create index cases_waiting_idx on resumed.cases (thread_id) where state = 'held' and verdict = 'waiting';
