-- Through what an act came: a command, the daemon, an application. Empty where a release before this one wrote it.

alter table resumed.audit add column via text;
