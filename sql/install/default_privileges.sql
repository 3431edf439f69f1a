--
-- What the default privileges of the database gave to others was not meant for any of
-- these objects.  What everybody may do with them is said beside each.
--

DO $$
DECLARE
	command text;
BEGIN
	FOR command IN
		SELECT DISTINCT format('REVOKE ALL ON %s FROM %I', r.object, pg_get_userbyid(r.grantee))
		  FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e',
			   LATERAL (SELECT * FROM tfstate_internal.rights(d.classid, d.objid)) r
		 WHERE e.extname = 'tfstate' AND r.grantee <> 0
	LOOP
		EXECUTE command;
	END LOOP;
END;
$$;
