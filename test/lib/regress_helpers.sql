-- What the regression tests share.

-- What varies in a text.
CREATE FUNCTION masked(t text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	t := replace(t, session_user || '@', '<user>@');
	t := replace(t, '(role ' || session_user || ')', '(role <user>)');
	t := regexp_replace(t, '@(\[local\]|[0-9a-f]*[.:][0-9a-f.:]+)', '@<address>', 'g');
	t := regexp_replace(t, '\mpid \d+', 'pid <pid>', 'g');
	t := regexp_replace(t, '\m[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\M', '<uuid>', 'g');
	t := regexp_replace(t, '\m\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z', '<rfc3339>', 'g');
	t := regexp_replace(t, '\mat \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00', 'at <time>', 'g');
	RETURN regexp_replace(t, '\m(since|until) \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00', '\1 <time>', 'g');
END;
$$;

-- Runs a statement and shows the error that it raises, without what varies.
CREATE PROCEDURE fails(statement text) LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RAISE INFO 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RAISE INFO '%', masked(concat_ws(E'\n', sqlstate || ': ' || sqlerrm,
									 'DETAIL:  ' || nullif(detail, ''), 'HINT:  ' || nullif(hint, '')));
END;
$$;
