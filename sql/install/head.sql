/* sql/tfstate--0.1.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION tfstate" to load this file. \quit

-- What is not schema-qualified below is in pg_catalog; nothing is looked up in
-- a schema that another role may write to.  In ours others may perhaps create
-- functions: in a call of one of ours all arguments are there, and of its types, or
-- literals for text, so that no other function fits as well.
SET LOCAL search_path TO pg_catalog, pg_temp;
