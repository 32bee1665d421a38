//! Facts by SQL: the server, the table, its publication. Read-only; every name is qualified, so
//! no `search_path` has a say.

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::Error;
use crate::change::Lsn;

/// The server that answered.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts, each on its own, not states"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `server_version_num`, such as 150018.
    pub version: u32,
    /// Names the cluster for its whole life.
    pub system_identifier: String,
    /// Grows with each promotion.
    pub timeline: u32,
    /// `minimal`, `replica` or `logical`.
    pub wal_level: String,
    /// A standby.
    pub in_recovery: bool,
    /// The role may open a replication connection.
    pub may_replicate: bool,
    /// How far WAL is flushed.
    pub wal_flush: Lsn,
    /// Another replication slot can be made.
    pub free_slots: bool,
    /// Another replication connection can be opened.
    pub free_senders: bool,
}

/// The table to be copied.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts, each on its own, not states"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema name, unquoted.
    pub schema: String,
    /// Table name, unquoted.
    pub name: String,
    /// A partitioned table: its changes arrive under its own name.
    pub partitioned: bool,
    /// Its columns, in order; generated ones are left out, as pgoutput leaves them out.
    pub columns: Vec<TableColumn>,
    /// An ordinary or partitioned table; nothing else can be published.
    pub is_table: bool,
    /// The role may read it.
    pub may_select: bool,
    /// The role may create a publication for it.
    pub may_publish: bool,
    /// Row security would hide rows from the role.
    pub row_security: bool,
    /// The planner's estimate, if there is one.
    pub estimated_rows: Option<u64>,
    /// Changes when the table or a partition is rewritten, attached or detached.
    pub storage: String,
}

/// A column as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableColumn {
    /// Column name, unquoted.
    pub name: String,
    /// `pg_type.oid`.
    pub type_oid: u32,
    /// `format_type`, with its modifier.
    pub type_name: String,
    /// NOT NULL.
    pub not_null: bool,
}

/// What makes a column fit to be the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// A valid, immediate, unconditional unique index on exactly this column.
    pub unique_index: Option<String>,
    /// Every table or partition that holds rows sends the key with an UPDATE or DELETE.
    pub in_replica_identity: bool,
}

/// The publication as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// It publishes all four of insert, update, delete and truncate.
    pub all_operations: bool,
    /// `publish_via_partition_root`.
    pub via_root: bool,
    /// The table as this publication publishes it, if it does.
    pub table: Option<PublishedTable>,
}

/// A table inside a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedTable {
    /// Published columns (all non-generated ones on PostgreSQL 14).
    pub columns: Option<Vec<String>>,
    /// The row filter, as SQL.
    pub row_filter: Option<String>,
}

/// Facts of the server.
///
/// # Errors
/// The query failed.
pub async fn server(client: &Client) -> Result<Server, Error> {
    // The timeline is read off the WAL file name, as that is right at once after a promotion.
    let sql = "SELECT pg_catalog.current_setting('server_version_num')::int4,
            (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
            CASE WHEN pg_catalog.pg_is_in_recovery()
                 THEN (SELECT pg_catalog.to_hex(timeline_id) FROM pg_catalog.pg_control_checkpoint())
                 ELSE pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END,
            pg_catalog.current_setting('wal_level'),
            pg_catalog.pg_is_in_recovery(),
            (SELECT r.rolreplication OR r.rolsuper OR EXISTS (
                -- Where the provider keeps the attribute to itself, this role stands for it.
                SELECT FROM pg_catalog.pg_roles m WHERE m.rolname = 'rds_replication' AND pg_catalog.pg_has_role(m.oid, 'MEMBER'))
             FROM pg_catalog.pg_roles r WHERE r.rolname = current_user),
            CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                 ELSE pg_catalog.pg_current_wal_flush_lsn() END,
            (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots)
                < pg_catalog.current_setting('max_replication_slots')::int8,
            (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication)
                < pg_catalog.current_setting('max_wal_senders')::int8";
    let row = client
        .query_one(sql, &[])
        .await
        .map_err(Error::doing("reading the server's facts"))?;
    let timeline: Option<String> = row.get(2);
    let wal_flush: tokio_postgres::types::PgLsn = row.get(6);
    Ok(Server {
        version: u32::try_from(row.get::<_, i32>(0)).unwrap_or_default(),
        system_identifier: row.get(1),
        timeline: timeline
            .and_then(|hex| u32::from_str_radix(&hex, 16).ok())
            .unwrap_or_default(),
        wal_level: row.get(3),
        in_recovery: row.get(4),
        may_replicate: row.get(5),
        wal_flush: Lsn(wal_flush.into()),
        free_slots: row.get(7),
        free_senders: row.get(8),
    })
}

/// Writes a mark into the log, as a transaction of its own that changes no table, and returns its
/// LSN. A stream that has come past it has come past everything before; without the mark, an idle
/// server would say so only seconds later. Where the role may not, the LSN is the log's end.
///
/// # Errors
/// The query failed.
pub async fn mark(client: &Client) -> Result<Lsn, Error> {
    let emit = "SELECT pg_catalog.pg_logical_emit_message(true, 'sync-es', '')";
    let row = match client.query_one(emit, &[]).await {
        Ok(row) => row,
        Err(_) => client
            .query_one("SELECT pg_catalog.pg_current_wal_flush_lsn()", &[])
            .await
            .map_err(Error::doing("reading the WAL's end"))?,
    };
    let lsn: tokio_postgres::types::PgLsn = row.get(0);
    Ok(Lsn(lsn.into()))
}

/// The database that the session is in.
///
/// # Errors
/// The query failed.
pub async fn database(client: &Client) -> Result<String, Error> {
    let row = client
        .query_one("SELECT pg_catalog.current_database()::text", &[])
        .await
        .map_err(Error::doing("reading the database's name"))?;
    Ok(row.get(0))
}

/// An LSN that no transaction's commit which is visible now lies above (on a standby: that was
/// replayed).
///
/// # Errors
/// The query failed.
pub async fn wal_insert(client: &Client, server: &Server) -> Result<Lsn, Error> {
    let sql = if server.in_recovery {
        "SELECT pg_catalog.pg_last_wal_replay_lsn()"
    } else {
        "SELECT pg_catalog.pg_current_wal_insert_lsn()"
    };
    let row = client
        .query_one(sql, &[])
        .await
        .map_err(Error::doing("reading the WAL's end"))?;
    let lsn: tokio_postgres::types::PgLsn = row.get(0);
    Ok(Lsn(lsn.into()))
}

/// Facts of a table; `None` when there is none of that name.
///
/// # Errors
/// A query failed.
pub async fn table(client: &Client, schema: &str, name: &str) -> Result<Option<Table>, Error> {
    let doing = || Error::doing(format!("reading the facts of table {schema}.{name}"));
    let sql = "SELECT c.oid, c.relkind IN ('r', 'p'), c.relkind = 'p',
            pg_catalog.has_table_privilege(c.oid, 'SELECT'),
            pg_catalog.row_security_active(c.oid),
            s.tuples, s.storage,
            pg_catalog.pg_has_role(c.relowner, 'USAGE')
                AND pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
        LATERAL (SELECT
            pg_catalog.sum(CASE WHEN l.relkind = 'p' OR l.reltuples < 0 THEN 0 ELSE l.reltuples END)::float8 AS tuples,
            pg_catalog.md5(pg_catalog.string_agg(l.oid || ':' || COALESCE(pg_catalog.pg_relation_filenode(l.oid), 0), ',' ORDER BY l.oid)) AS storage
            FROM pg_catalog.pg_class l
            WHERE l.oid = c.oid OR l.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid))) s
        WHERE n.nspname = $1::text AND c.relname = $2::text";
    let Some(row) = client
        .query_opt(sql, &[&schema, &name])
        .await
        .map_err(doing())?
    else {
        return Ok(None);
    };
    let oid: u32 = row.get(0);
    let columns = "SELECT a.attname::text, a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
        ORDER BY a.attnum";
    let columns = client.query(columns, &[&oid]).await.map_err(doing())?;
    let tuples: Option<f64> = row.get(5);
    Ok(Some(Table {
        oid,
        schema: schema.to_owned(),
        name: name.to_owned(),
        is_table: row.get(1),
        partitioned: row.get(2),
        may_select: row.get(3),
        row_security: row.get(4),
        may_publish: row.get(7),
        estimated_rows: tuples.filter(|&tuples| tuples > 0.0).map(estimate),
        storage: row.get(6),
        columns: columns
            .iter()
            .map(|row| TableColumn {
                name: row.get(0),
                type_oid: row.get(1),
                type_name: row.get(2),
                not_null: row.get(3),
            })
            .collect(),
    }))
}

/// An estimate of rows, which nothing depends on but a progress bar.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn estimate(tuples: f64) -> u64 {
    tuples as u64
}

/// Whether a column can be the key.
///
/// # Errors
/// A query failed.
pub async fn key(client: &Client, table: u32, column: &str) -> Result<KeyFacts, Error> {
    let sql = "WITH key AS (
            SELECT attnum FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attname = $2::text AND NOT attisdropped
        ), leaf AS (
            SELECT c.oid, c.relreplident FROM pg_catalog.pg_class c
            WHERE c.relkind = 'r' AND (c.oid = $1 OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1)))
        )
        SELECT (SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_index i ON c.oid = i.indexrelid, key
                WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate
                  AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = key.attnum
                ORDER BY i.indisprimary DESC LIMIT 1),
            NOT EXISTS (SELECT 1 FROM leaf WHERE leaf.relreplident <> 'f' AND NOT EXISTS (
                SELECT 1 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = leaf.oid AND a.attname = $2::text
                WHERE i.indrelid = leaf.oid AND a.attnum = ANY (i.indkey)
                  AND ((leaf.relreplident = 'd' AND i.indisprimary) OR (leaf.relreplident = 'i' AND i.indisreplident))))";
    let row = client
        .query_one(sql, &[&table, &column])
        .await
        .map_err(Error::doing(format!(
            "reading the facts of key column {column}"
        )))?;
    Ok(KeyFacts {
        unique_index: row.get(0),
        in_replica_identity: row.get(1),
    })
}

/// Facts of a publication and of the table in it; `None` when there is none of that name.
///
/// # Errors
/// A query failed.
pub async fn publication(
    client: &Client,
    server: &Server,
    name: &str,
    table: &Table,
) -> Result<Option<Publication>, Error> {
    let doing = || Error::doing(format!("reading the facts of publication {name}"));
    let sql = "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot FROM pg_catalog.pg_publication WHERE pubname = $1::text";
    let Some(row) = client.query_opt(sql, &[&name]).await.map_err(doing())? else {
        return Ok(None);
    };
    // Column lists and row filters came with PostgreSQL 15.
    let details = if server.version >= 150_000 {
        "attnames::text[], rowfilter"
    } else {
        "NULL::text[], NULL::text"
    };
    let sql = format!(
        "SELECT {details} FROM pg_catalog.pg_publication_tables WHERE pubname = $1::text AND schemaname = $2::text AND tablename = $3::text"
    );
    let published = client
        .query_opt(&sql, &[&name, &table.schema, &table.name])
        .await
        .map_err(doing())?;
    Ok(Some(Publication {
        all_operations: row.get(0),
        via_root: row.get(1),
        table: published.map(|row| PublishedTable {
            columns: row.get(0),
            row_filter: row.get(1),
        }),
    }))
}

/// Creates the publication for the table.
///
/// # Errors
/// The statement failed; 42501 when the role does not own the table or may not create in the database.
pub async fn create_publication(client: &Client, name: &str, table: &Table) -> Result<(), Error> {
    client
        .batch_execute(&create_publication_sql(name, table))
        .await
        .map_err(Error::doing(format!("creating publication {name}")))
}

/// The statement that creates the publication: also what a person is told to run.
#[must_use]
pub fn create_publication_sql(name: &str, table: &Table) -> String {
    format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)",
        quoted(name),
        table.quoted(),
    )
}

impl Table {
    /// Schema and name, quoted for SQL.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// An identifier, quoted for SQL (manual: "Identifiers and Key Words").
#[must_use]
pub fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn an_identifier_cannot_break_out_of_its_quotes() {
        assert_eq!(quoted("we\"ird; drop"), "\"we\"\"ird; drop\"");
    }
}
