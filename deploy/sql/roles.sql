-- Two roles for resumed: an owner that migrates, and a runner that has what the daemon needs and no more; and where
-- replicas are scaled by what there is to do, a third, which may ask how much that is.
--
-- In the database of LangGraph's tables, as a superuser; or, on a managed server, as an administrator who may create
-- roles, owns the database and is a member of the role that those tables belong to:
--
--     psql "$ADMIN_DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/sql/roles.sql
--
-- Names other than these are given with -v, each on its own: -v runner=shop_resumed -v checkpoint_schema=langgraph
--
--     owner               resumed_owner     migrates: `resumed migrate` runs with it
--     runner              resumed_runner    every other command, `resumed run` first of all
--     checkpoint_schema   public            where LangGraph's tables are
--     prune               no                whether the runner may delete finished threads: -v prune=yes where
--                                           RESUMED_PRUNE_OLDER_THAN, a workflow's `retention` or `resumed prune` is used
--     scaler              none              reads the view resumed.backlog and nothing else: -v scaler=resumed_scaler where
--                                           deploy/kubernetes/autoscaled asks the database
--
-- An application that runs graphs through the executor writes to our schema too: grant resumed_runner to its role.
--
-- The role that LangGraph's tables belong to may be the owner itself, as in -v owner=shop.
--
-- Safe to repeat, and it says what it leaves for later. Run it before the first `resumed migrate`; run it again where
-- LangGraph's tables were made after it (a right is on a table, not on its name), and once after that first `migrate`,
-- when it takes back the rights too many. A later upgrade needs no run: what `migrate` makes is granted as it is made.
--
-- The roles come without a password: give each one (\password resumed_runner), or the login your server uses instead.

\set ON_ERROR_STOP on
\if :{?owner}
\else
\set owner resumed_owner
\endif
\if :{?runner}
\else
\set runner resumed_runner
\endif
\if :{?checkpoint_schema}
\else
\set checkpoint_schema public
\endif
\if :{?prune}
\else
\set prune no
\endif
\if :{?scaler}
\else
\set scaler none
\endif

select to_regrole(quote_ident(:'owner')) is null as no_owner, to_regrole(quote_ident(:'runner')) is null as no_runner
\gset
select :'scaler' <> 'none' as scaling, :'scaler' <> 'none' and to_regrole(quote_ident(:'scaler')) is null as no_scaler
\gset
\if :no_owner
create role :"owner" login;
\endif
\if :no_runner
create role :"runner" login;
\endif
-- Its question is answered in well under a second. One that is not must not stay on a server in trouble.
\if :no_scaler
create role :"scaler" login;
alter role :"scaler" set default_transaction_read_only = on;
alter role :"scaler" set statement_timeout = '10s';
\endif

begin;

-- Who gives something away must be a member of who receives it; a superuser is, the administrator of a managed server
-- is not.
select format('grant %I to current_user', :'owner') where not pg_has_role(:'owner', 'usage') \gexec

-- The schema is the owner's, with all that an earlier `migrate` by another role made in it. Migrations create the
-- schema where it is not there, and Postgres asks for the right to do so even where it is.
select format('grant create, connect on database %I to %I', current_database(), :'owner') \gexec
select format('grant connect on database %I to %I', current_database(), :'runner') \gexec
create schema if not exists resumed;
alter schema resumed owner to :"owner";
select format('alter table %s owner to %I', c.oid::regclass, :'owner') from pg_class c
where c.relnamespace = 'resumed'::regnamespace and c.relkind in ('r', 'p', 'v')
and c.relowner <> to_regrole(quote_ident(:'owner')) \gexec
select format('alter function %s owner to %I', p.oid::regprocedure, :'owner') from pg_proc p
where p.pronamespace = 'resumed'::regnamespace and p.proowner <> to_regrole(quote_ident(:'owner')) \gexec
grant usage on schema resumed to :"runner";

-- Our tables and functions: those that are there, and those of every migration to come. The runner deletes none of our
-- rows by itself: what is over is deleted by functions with the owner's rights, which keep what is not.
alter default privileges for role :"owner" in schema resumed grant select, insert, update on tables to :"runner";
alter default privileges for role :"owner" in schema resumed grant execute on functions to :"runner";
grant select, insert, update on all tables in schema resumed to :"runner";
grant execute on all functions in schema resumed to :"runner";
select to_regclass('resumed.schema_version') is not null as migrated \gset
\if :migrated
revoke insert, update on resumed.schema_version from :"runner";
select to_regclass('resumed.audit') is not null as audited \gset
\if :audited
revoke update on resumed.audit from :"runner";
\endif
-- Triggers write notices, with the owner's rights.
select to_regclass('resumed.notices') is not null as noticed \gset
\if :noticed
revoke insert, update on resumed.notices from :"runner";
\endif
select to_regclass('resumed.backlog') is not null as has_backlog \gset
\if :has_backlog
revoke all on resumed.backlog from :"runner";
\endif
\else
\echo 'not migrated yet: run `resumed migrate` as the owner, then this file once more'
\endif

-- The scaler needs no right to a table: the function under the view reads with the owner's.
\if :scaling
select format('grant connect on database %I to %I', current_database(), :'scaler') \gexec
grant usage on schema resumed to :"scaler";
select to_regclass('resumed.backlog') is not null as has_backlog \gset
\if :has_backlog
grant select on resumed.backlog to :"scaler";
grant execute on function resumed.backlog_v1() to :"scaler";
\else
\echo 'there is no resumed.backlog yet: run `resumed migrate` as the owner, then this file once more'
\endif
\endif

-- LangGraph's tables: what its saver does and no more. It never updates a blob, and deletes only with
-- -v prune=yes; without it that right is taken back. Its own schema changes stay with the application, whose
-- checkpointer.setup() makes them.
grant usage on schema :"checkpoint_schema" to :"owner", :"runner";
select to_regclass(format('%I.checkpoints', :'checkpoint_schema')) is not null as have_tables \gset
\if :have_tables
grant select, insert, update on :"checkpoint_schema".checkpoints, :"checkpoint_schema".checkpoint_writes to :"runner";
grant select, insert on :"checkpoint_schema".checkpoint_blobs to :"runner";
\if :prune
grant delete on :"checkpoint_schema".checkpoints, :"checkpoint_schema".checkpoint_writes,
    :"checkpoint_schema".checkpoint_blobs to :"runner";
\else
revoke delete on :"checkpoint_schema".checkpoints, :"checkpoint_schema".checkpoint_writes,
    :"checkpoint_schema".checkpoint_blobs from :"runner";
\endif

-- Only who owns a table may build an index on it, so the owner becomes a member of the role that does; never of a
-- superuser, nor of one that is a member of the owner. Where that is too much, take these lines out, run
-- `resumed migrate --no-index` as the owner and `resumed migrate` once as that role.
select o.rolname as tables_owner, pg_has_role(:'owner', o.oid, 'usage') as is_member,
    pg_has_role(o.oid, :'owner', 'member') as is_above
from pg_class c join pg_roles o on o.oid = c.relowner
where c.oid = format('%I.checkpoints', :'checkpoint_schema')::regclass \gset
\if :is_member
\elif :is_above
\echo 'LangGraph''s tables belong to a role above the owner: give them to the application''s role (alter table ... owner'
\echo 'to ...) and run this file again, or build the index once with `resumed migrate` as that role'
\else
grant :"tables_owner" to :"owner";
\endif
\else
\echo 'LangGraph''s tables are not there yet: run this file once more after the application''s checkpointer.setup()'
\endif

commit;
