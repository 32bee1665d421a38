-- What PostgreSQL sends to sync-es: every change of the one table. Plain SQL; may be run again.
-- To be run by the table's owner, who also needs CREATE on the database; sync-es needs neither
-- right when the publication exists before it starts.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'sync_es_integrated_records') THEN
        CREATE PUBLICATION sync_es_integrated_records;
    END IF;
END
$$;

-- Exactly this table: one more would be decoded and sent in vain.
ALTER PUBLICATION sync_es_integrated_records SET TABLE integrated_records;

-- All four operations, since the index has to follow each. A partitioned table's changes come
-- under the name of the table itself, and a change that moves a row to another partition is one.
ALTER PUBLICATION sync_es_integrated_records
    SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);
