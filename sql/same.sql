-- No setting of a session changes a lockid, a hash, a grant or a result of tfstate_check().
SET client_min_messages = warning;
CREATE EXTENSION tfstate;
CREATE ROLE regress_tfstate_same LOGIN;
CREATE SCHEMA "same";
CREATE SCHEMA "Same ""2""";
CREATE SCHEMA "user";

-- Calls whose results must not differ.
CREATE TABLE results (run text, call text, result text);
CREATE PROCEDURE look(run text) LANGUAGE plpgsql AS $$
DECLARE
	rel text;
	id bigint;
BEGIN
	FOREACH rel IN ARRAY ARRAY['same.states', '"Same ""2""".states', '"user".states', 'same."table"', 'same.t$1', 'same._1'] LOOP
		EXECUTE format('SELECT s.id FROM %s s WHERE s.name = ''default''', rel) INTO id;
		PERFORM tfstate_pg.pg_try_advisory_lock(id);
		INSERT INTO public.results
		SELECT look.run, 'lock ' || h.lockid, concat_ws(' ', h.mode, h.info->>'Path', h.info->>'Created' ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z$')
		  FROM public.tfstate_holders h;
		INSERT INTO public.results
		SELECT look.run, 'hash ' || l.lockid, (t.classid, t.objid)::text
		  FROM public.tfstate_holders l, pg_catalog.pg_locks t WHERE t.locktype = 'advisory' AND t.objsubid = 29798;
		PERFORM tfstate_pg.pg_advisory_unlock(id);
	END LOOP;
	INSERT INTO public.results SELECT look.run, 'workspace ' || w.id, w.workspace FROM public.tfstate_workspaces w;
	INSERT INTO public.results SELECT look.run, 'version ' || v.workspace, v.sha256 || ' ' || v.md5 FROM public.tfstate_versions v;
	INSERT INTO public.results SELECT look.run, 'verify', v.workspace || v.problem FROM public.tfstate_verify() v;
	INSERT INTO public.results SELECT look.run, 'grant', concat_ws(' ', g.role, g.pattern, g.privilege) FROM public.tfstate_grants g;
	INSERT INTO public.results SELECT look.run, 'check', concat_ws('|', c.severity, c.role, c.object, c.problem, c.remedy) FROM public.tfstate_check() c WHERE c.object IS DISTINCT FROM 'server';
END;
$$;
-- Tables in schemas that need quotes, and that need none.
CREATE VIEW tables AS
SELECT * FROM (VALUES ('same', 'states'), ('Same "2"', 'states'), ('user', 'states'), ('same', 'table'), ('same', 't$1'), ('same', '_1')) t(s, t);
SELECT count(DISTINCT (s, t)) FROM tables, tfstate_attach(s, t, 'regress_tfstate_same');
-- Problems for tfstate_check() to report.
SELECT current_database() AS database \gset
ALTER ROLE regress_tfstate_same IN DATABASE :"database" SET idle_session_timeout = '2 h';
ALTER ROLE regress_tfstate_same IN DATABASE :"database" SET lock_timeout = '90 min';
ALTER TABLE same.states ALTER id DROP DEFAULT;
ALTER TABLE "user".states DISABLE TRIGGER tfstate_guard_row;
CALL look('plain');

-- tfstate has its own rule for lockids: names that PostgreSQL 15 reserves are quoted, as SQL quotes them.
SELECT pattern FROM tfstate_grants ORDER BY pattern COLLATE "C";
CREATE TABLE same.json_table (n integer);
CREATE TABLE same."2" (n integer);
CREATE TABLE same."Ä" (n integer);
CREATE TABLE same."a""b" (n integer);
CREATE TABLE same."xmltable" (n integer);
SELECT tfstate_internal.table_name(c.oid) FROM pg_class c
 WHERE c.relnamespace = 'same'::regnamespace AND c.relkind = 'r' ORDER BY c.relname COLLATE "C";
SELECT tfstate_internal.table_name(0);
DROP TABLE same."xmltable";
CREATE FUNCTION differs(word text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	result boolean;
BEGIN
	EXECUTE format('ALTER TABLE same.json_table RENAME TO %I', word);
	EXECUTE format('SELECT tfstate_internal.table_name(%L) <> %L', format('same.%I', word), format('same.%I', word)) INTO result;
	EXECUTE format('ALTER TABLE same.%I RENAME TO json_table', word);
	RETURN result;
END;
$$;
SELECT count(*) > 100 AS words, string_agg(word, ' ') FILTER (WHERE differs(word)) AS differing
  FROM pg_get_keywords()
 WHERE (catcode <> 'U' OR word < 'at') AND word NOT IN ('table', 'system_user', 'merge_action') AND word !~ '^json';

CREATE PROCEDURE hostile() LANGUAGE plpgsql AS $$
DECLARE
	setting text;
BEGIN
	FOREACH setting IN ARRAY ARRAY['quote_all_identifiers=on', 'standard_conforming_strings=off', 'escape_string_warning=off',
		'backslash_quote=off', 'DateStyle=SQL, DMY', 'IntervalStyle=sql_standard', 'TimeZone=Asia/Kathmandu',
		'timezone_abbreviations=India', 'extra_float_digits=-15', 'bytea_output=escape', 'array_nulls=off',
		'transform_null_equals=on', 'xmlbinary=hex', 'xmloption=document', 'row_security=off', 'lc_messages=C', 'lc_monetary=C',
		'lc_numeric=C', 'lc_time=C', 'default_text_search_config=pg_catalog.german', 'check_function_bodies=off',
		'plan_cache_mode=force_generic_plan', 'enable_hashjoin=off', 'enable_sort=off',
		'jit=off', 'from_collapse_limit=1',
		'default_toast_compression=pglz', 'gin_fuzzy_search_limit=1', 'createrole_self_grant=set, inherit',
		'plpgsql.variable_conflict=use_column', 'plpgsql.extra_errors=all', 'plpgsql.extra_warnings=all',
		'parallel_setup_cost=0', 'parallel_tuple_cost=0', 'min_parallel_table_scan_size=0', 'password_encryption=md5',
		'default_transaction_isolation=repeatable read', 'client_encoding=LATIN1', 'session_replication_role=replica',
		'search_path=pg_temp, same, pg_catalog'] LOOP
		-- not every major has all of them, or this value of one
		IF pg_catalog.current_setting(split_part(setting, '=', 1), true) IS NOT NULL AND
			(setting <> 'standard_conforming_strings=off' OR pg_catalog.current_setting('server_version_num') < '190000') THEN
			PERFORM pg_catalog.set_config(split_part(setting, '=', 1), split_part(setting, '=', 2), false);
		END IF;
	END LOOP;
END;
$$;
CALL hostile();
SHOW quote_all_identifiers;
CALL public.look('hostile');
RESET ALL;
SET client_min_messages = warning;
SELECT run, split_part(call, ' ', 1) AS kind, count(*) FROM results GROUP BY 1, 2 ORDER BY 2, 1;
SELECT result FROM results WHERE run = 'plain' AND call = 'check' ORDER BY result COLLATE "C";
SELECT * FROM (SELECT call, result FROM results WHERE run = 'plain' EXCEPT ALL SELECT call, result FROM results WHERE run = 'hostile') p;
SELECT * FROM (SELECT call, result FROM results WHERE run = 'hostile' EXCEPT ALL SELECT call, result FROM results WHERE run = 'plain') h;

-- Attach and detach, too
CREATE VIEW state AS
SELECT t.name, t.relid::text, t.guard, (SELECT string_agg(concat_ws(' ', g.role, g.pattern, g.privilege), ', ' ORDER BY g.pattern) FROM tfstate_grants g) AS grants,
	   (SELECT string_agg(pg_get_expr(d.adbin, d.adrelid), ', ') FROM pg_attrdef d WHERE d.adrelid = t.relid) AS defaults
  FROM tfstate_internal.attached_table t;
SELECT count(DISTINCT (s, t)) FROM tables, tfstate_attach(s, t, 'regress_tfstate_same');
CREATE TABLE before AS TABLE state;
CALL hostile();
SET default_transaction_isolation = 'read committed';
SELECT count(DISTINCT (s, t)) FROM public.tables, public.tfstate_attach(s, t, 'regress_tfstate_same');
RESET ALL;
SET client_min_messages = warning;
SELECT count(*) FROM (TABLE before INTERSECT TABLE state) s;
CALL hostile();
SET default_transaction_isolation = 'read committed';
SELECT count(public.tfstate_detach(s, t)) FROM public.tables WHERE s = 'user' OR t = 'table';
RESET ALL;
SELECT pattern FROM tfstate_grants ORDER BY pattern COLLATE "C";

SET client_min_messages = warning;
SELECT count(tfstate_detach(s, t)) FROM tables WHERE s <> 'user' AND t <> 'table';
DROP VIEW state, tables;
DROP PROCEDURE look, hostile;
DROP FUNCTION differs;
DROP TABLE results, before;
DROP SCHEMA "same", "Same ""2""", "user" CASCADE;
DROP EXTENSION tfstate;
DROP SEQUENCE public.global_states_id_seq;
DROP OWNED BY regress_tfstate_same;
DROP ROLE regress_tfstate_same;
