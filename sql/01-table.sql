-- The table that sync-es keeps an index equal to when nothing else is configured. Plain SQL, so
-- that psql, a driver and the init scripts of a container can all run it; may be run again.
--
-- Only the primary key is demanded by sync-es. Updates and deletes are identified by it (REPLICA
-- IDENTITY DEFAULT), so the table needs no other setting.

CREATE TABLE IF NOT EXISTS integrated_records (
    hk             text PRIMARY KEY,
    name           text,
    legal_name     text,
    description    text,
    street         text,
    city           text,
    region         text,
    postal_code    text,
    country_code   text,
    website        text,
    latitude       double precision,
    longitude      double precision,
    emails         text[],
    phones         text[],
    industry_codes text[],
    source_systems text[],
    employee_count integer,
    annual_revenue numeric(18, 2),
    founded_on     date,
    identifiers    jsonb,
    attributes     jsonb,
    embedding      real[],
    created_at     timestamptz DEFAULT now(),
    updated_at     timestamptz DEFAULT now()
);

COMMENT ON TABLE integrated_records IS 'One row for each organization, merged from its sources';
COMMENT ON COLUMN integrated_records.hk IS 'Hash key of the organization; the id of its document';
COMMENT ON COLUMN integrated_records.country_code IS 'ISO 3166-1 alpha-2';
COMMENT ON COLUMN integrated_records.latitude IS 'WGS 84, degrees';
COMMENT ON COLUMN integrated_records.longitude IS 'WGS 84, degrees';
COMMENT ON COLUMN integrated_records.embedding IS
    'EMBEDDING_DIMENSIONS elements, not all zero; pgvector''s vector and halfvec serve as well';
