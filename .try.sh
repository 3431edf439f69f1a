cd /work/wt/pertable; source test/lib/setup.sh; prepare >/dev/null; build >/dev/null; start_server >/dev/null
"$bindir/psql" -X -d postgres <<'SQL'
CREATE EXTENSION tfstate;
-- odd: role name with quotes, group in database, drop group with rights
CREATE ROLE "my ""grp"; CREATE ROLE "m 1" LOGIN IN ROLE "my ""grp";
SELECT * FROM tfstate_attach_database('my "grp');
SELECT count(*) FROM tfstate_attach('a b');
SELECT role, severity, problem FROM tfstate_check() WHERE role = 'm 1';
TABLE tfstate_tables;
-- a superuser's role as group, nonexistent, public
SELECT tfstate_attach_database('nobody_there');
SELECT tfstate_attach_database('public');
SELECT tfstate_attach_database(NULL, true);
DROP OWNED BY "my ""grp"; DROP ROLE "my ""grp";
SELECT count(*) FROM tfstate_attach('c');
TABLE tfstate_tables;
SELECT * FROM tfstate_attach_members();
SELECT * FROM tfstate_cleanup();
SELECT severity, role, object, problem, remedy FROM tfstate_check() WHERE object IS DISTINCT FROM 'server';
SELECT * FROM tfstate_detach_database();
SELECT relid, role, role_name, kind, object FROM tfstate_internal.given;
-- rollback, and concurrent
CREATE ROLE g2; CREATE ROLE m2 LOGIN IN ROLE g2;
BEGIN; SELECT tfstate_attach_database('g2', search_path => true); ROLLBACK;
SELECT count(*) FROM pg_db_role_setting; SELECT count(*) FROM tfstate_internal.attached_database;
SELECT tfstate_attach_database('g2', search_path => true, mode => 'durable');
SELECT setconfig FROM pg_db_role_setting WHERE setrole = 0;
ALTER DATABASE postgres RESET ALL;
SELECT tfstate_attach_database(search_path => false);
SELECT tfstate_attach_members();
SELECT setrole::regrole, setconfig FROM pg_db_role_setting;
SQL
