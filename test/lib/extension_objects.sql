-- test/lib/extension_objects.sql
--
-- Prints all objects of the extension, with definitions, owners, privileges and comments; for
-- tests that compare an updated extension with a fresh one.  Nothing that it prints depends on
-- OIDs or on the order of creation.

SET search_path = pg_catalog;
SELECT extversion, extowner::regrole, extrelocatable, obj_description(oid, 'pg_extension') FROM pg_extension WHERE extname = 'tfstate';

-- what pg_dump copies the data of
SELECT c.t::regclass, c.condition
  FROM pg_extension e, unnest(e.extconfig, e.extcondition) c(t, condition)
 WHERE e.extname = 'tfstate' ORDER BY c.t::regclass::text COLLATE "C";

CREATE TEMP VIEW object AS
SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) COLLATE "C" AS name
  FROM pg_depend d JOIN pg_extension e ON (d.refclassid, d.refobjid, d.deptype) = ('pg_extension'::regclass, e.oid, 'e')
 WHERE e.extname = 'tfstate';

-- functions and schemas
SELECT o.name, p.proowner::regrole, pg_get_functiondef(p.oid), p.probin, p.prosrc, p.proargdefaults IS NOT NULL
  FROM object o JOIN pg_proc p ON (o.classid, o.objid) = ('pg_proc'::regclass, p.oid) ORDER BY o.name;
SELECT o.name, n.nspowner::regrole
  FROM object o JOIN pg_namespace n ON (o.classid, o.objid) = ('pg_namespace'::regclass, n.oid) ORDER BY o.name;

-- tables, views, sequences and composite types
CREATE TEMP VIEW relation AS
SELECT o.name, c.* FROM object o JOIN pg_class c ON (o.classid, o.objid) = ('pg_class'::regclass, c.oid)
UNION ALL
SELECT o.name, c.* FROM object o JOIN pg_type t ON (o.classid, o.objid) = ('pg_type'::regclass, t.oid)
	   JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c';
SELECT name, relowner::regrole, relkind, relpersistence, relrowsecurity, relforcerowsecurity, relreplident, reloptions,
	   (SELECT amname FROM pg_am a WHERE a.oid = relam), pg_get_viewdef(oid)
  FROM relation ORDER BY name;
SELECT r.name, a.attnum, a.attname, a.attisdropped, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attstorage,
	   a.attcompression, a.attstattarget, a.attcollation::regcollation, a.attidentity, a.attgenerated,
	   pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum), a.attacl
  FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0
	   LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
 ORDER BY r.name, a.attnum;
SELECT r.name, pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisreplident, obj_description(i.indexrelid, 'pg_class')
  FROM relation r JOIN pg_index i ON i.indrelid = r.oid ORDER BY r.name, pg_get_indexdef(i.indexrelid) COLLATE "C";
SELECT r.name, c.conname, pg_get_constraintdef(c.oid), obj_description(c.oid, 'pg_constraint')
  FROM relation r JOIN pg_constraint c ON c.conrelid = r.oid ORDER BY r.name, c.conname;
SELECT r.name, pg_get_triggerdef(t.oid), t.tgenabled, obj_description(t.oid, 'pg_trigger')
  FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal ORDER BY r.name, t.tgname;
SELECT r.name, pg_get_ruledef(w.oid), w.ev_enabled FROM relation r JOIN pg_rewrite w ON w.ev_class = r.oid ORDER BY r.name, w.rulename;
SELECT r.name, s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcache, s.seqcycle
  FROM relation r JOIN pg_sequence s ON s.seqrelid = r.oid ORDER BY r.name;
SELECT r.name, p.polname, pg_get_expr(p.polqual, p.polrelid) FROM relation r JOIN pg_policy p ON p.polrelid = r.oid ORDER BY r.name, p.polname;

-- other types, and casts
SELECT o.name, t.typowner::regrole, t.typtype, t.typcategory, t.typbasetype::regtype, t.typnotnull, t.typdefault,
	   (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid)
  FROM object o JOIN pg_type t ON (o.classid, o.objid) = ('pg_type'::regclass, t.oid) ORDER BY o.name;
SELECT o.name, c.castcontext, c.castmethod, c.castfunc::regprocedure
  FROM object o JOIN pg_cast c ON (o.classid, o.objid) = ('pg_cast'::regclass, c.oid) ORDER BY o.name;

-- comments, rights, and the rights that pg_dump takes for granted
SELECT o.name, obj_description(o.objid, (SELECT c.relname FROM pg_class c WHERE c.oid = o.classid)) FROM object o ORDER BY o.name;
SELECT o.name, a.grantee::regrole, a.grantor::regrole, a.privilege_type, a.is_grantable
  FROM object o
	   LEFT JOIN pg_proc p ON (o.classid, o.objid) = ('pg_proc'::regclass, p.oid)
	   LEFT JOIN pg_class c ON (o.classid, o.objid) = ('pg_class'::regclass, c.oid)
	   LEFT JOIN pg_namespace n ON (o.classid, o.objid) = ('pg_namespace'::regclass, n.oid)
	   LEFT JOIN pg_type t ON (o.classid, o.objid) = ('pg_type'::regclass, t.oid),
	   aclexplode(coalesce(p.proacl, c.relacl, n.nspacl, t.typacl,
						   acldefault('f', p.proowner), acldefault(CASE WHEN c.relkind = 'S' THEN 's' ELSE 'r' END::"char", c.relowner),
						   acldefault('n', n.nspowner), acldefault('T', t.typowner))) a
 ORDER BY o.name, a.grantee::regrole::text COLLATE "C", a.privilege_type COLLATE "C";
SELECT o.name, i.objsubid, i.privtype, a.grantee::regrole, a.privilege_type, a.is_grantable
  FROM object o JOIN pg_init_privs i ON (i.classoid, i.objoid) = (o.classid, o.objid), aclexplode(i.initprivs) a
 ORDER BY o.name, i.objsubid, a.grantee::regrole::text COLLATE "C", a.privilege_type COLLATE "C";
SELECT evtname, evtevent, evtfoid::regproc, evtenabled, evtowner::regrole FROM pg_event_trigger ORDER BY evtname;
