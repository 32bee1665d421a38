-- The role that sync-es connects as, with what it needs and nothing more. For psql, by a superuser
-- (only one may give REPLICATION away before PostgreSQL 16); may be run again:
--
--   psql --set sync_es_password="$POSTGRES_ROLE_PASSWORD" --file 03-roles.sql
--
-- Without the psql variable the environment's POSTGRES_ROLE_PASSWORD is taken (psql 15 and newer), which
-- is how the init scripts of a container get it. Without either the role has no password.

\if :{?sync_es_password}
\else
    \getenv sync_es_password POSTGRES_ROLE_PASSWORD
\endif

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sync_es') THEN
        CREATE ROLE sync_es;
    END IF;
END
$$;

-- LOGIN: it connects. REPLICATION: it creates, reads and drops its replication slot.
ALTER ROLE sync_es
    LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;

\if :{?sync_es_password}
    -- The statement holds the password's text: it must not reach the server's log.
    BEGIN;
    SET LOCAL log_statement = 'none';
    SET LOCAL log_min_duration_statement = -1;
    SET LOCAL log_min_error_statement = 'panic';
    SET LOCAL password_encryption = 'scram-sha-256';
    ALTER ROLE sync_es PASSWORD :'sync_es_password';
    COMMIT;
\endif

-- CONNECT: the snapshot's connection and the replication connection are to this database.
SELECT format('GRANT CONNECT ON DATABASE %I TO sync_es', current_database()) \gexec

-- USAGE: without it no name in the schema can be looked up.
GRANT USAGE ON SCHEMA public TO sync_es;

-- SELECT: the snapshot reads every row; the stream reads a row again when an update came without an
-- out-of-line value. It covers the ACCESS SHARE lock under which the slot is created as well. No
-- INSERT, UPDATE, DELETE or TRUNCATE: sync-es writes to no table (only a mark into the log now and
-- then, by pg_logical_emit_message, which every role may).
--
-- The catalog (columns, slots, publications, transaction ids, WAL positions) is open to every role,
-- and creating the publication is the owner's (02-publication.sql).
GRANT SELECT ON integrated_records TO sync_es;
