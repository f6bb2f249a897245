-- Through what an act came: a command, the daemon, an application. Empty where a release before this one wrote it.

alter table resumed.audit add column via text;

-- Which acts there are is the code's to say: a release that knows a new one needs no migration for it.
alter table resumed.audit drop constraint if exists audit_action_check;
