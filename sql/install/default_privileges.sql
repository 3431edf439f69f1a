--
-- The default privileges of the database are not meant for these objects: take away what
-- they have given.  What PUBLIC may do stands beside each object.  An update does this to
-- its new objects only: what an administrator has granted stays.
--

DO $$
DECLARE
	command text;
BEGIN
	FOR command IN
		SELECT DISTINCT format('REVOKE ALL ON %s FROM %I', r.object, pg_get_userbyid(r.grantee))
		  FROM pg_extension e
			   JOIN pg_depend d ON (d.refclassid, d.refobjid, d.deptype) = ('pg_extension'::regclass, e.oid, 'e'),
			   LATERAL (SELECT * FROM tfstate_internal.rights(d.classid, d.objid)) r
		 WHERE e.extname = 'tfstate' AND r.grantee <> 0
-- in an update:		   AND format('%s/%s', d.classid, d.objid) <>
-- in an update:			   ALL (string_to_array(current_setting('tfstate_update.there'), ' '))
	LOOP
		EXECUTE command;
	END LOOP;
END;
$$;
