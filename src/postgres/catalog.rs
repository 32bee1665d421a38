//! Facts by SQL: the server, the table, its publication. Read-only; every name is qualified, so
//! no `search_path` has a say.

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::Error;
use crate::change::Lsn;

/// The server that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `server_version_num`, such as 150018.
    pub version: u32,
    /// The role that the session has, unquoted.
    pub role: String,
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
    /// Replication slots, of `max_replication_slots`.
    pub slots: Used,
    /// Replication connections, of `max_wal_senders`.
    pub senders: Used,
}

/// How many of something that is limited are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// In use.
    pub count: i64,
    /// As many as there can be.
    pub max: i64,
}

impl Used {
    /// Whether there can be one more.
    #[must_use]
    pub fn is_one_free(self) -> bool {
        self.count < self.max
    }
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
    /// The names of its generated columns.
    pub generated: Vec<String>,
    /// Some of its values are stored out of line, where an update that does not touch them does not
    /// send them.
    pub out_of_line: bool,
    /// An ordinary or partitioned table; nothing else can be published.
    pub is_table: bool,
    /// The role may look things up in its schema.
    pub may_use_schema: bool,
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
    /// The tables or partitions that hold rows and do not send the key with an UPDATE or DELETE.
    pub unidentified: Vec<Unidentified>,
    /// Every table or partition that holds rows sends the whole old row (REPLICA IDENTITY FULL).
    pub identity_is_full: bool,
}

/// A table or partition whose replica identity does not include the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unidentified {
    /// Schema and name, quoted for SQL.
    pub table: String,
    /// An index that can be its replica identity, unquoted.
    pub index: Option<String>,
}

/// The publication as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// It publishes all four of insert, update, delete and truncate.
    pub all_operations: bool,
    /// `publish_via_partition_root`.
    pub via_root: bool,
    /// The table itself, not only its partitions, is in it.
    pub has_table: bool,
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
            (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots),
            pg_catalog.current_setting('max_replication_slots')::int8,
            (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication),
            pg_catalog.current_setting('max_wal_senders')::int8,
            current_user::text";
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
        slots: Used {
            count: row.get(7),
            max: row.get(8),
        },
        senders: Used {
            count: row.get(9),
            max: row.get(10),
        },
        role: row.get(11),
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
                AND pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
            pg_catalog.has_schema_privilege(n.oid, 'USAGE'), s.out_of_line
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
        LATERAL (SELECT
            pg_catalog.sum(CASE WHEN l.relkind = 'p' OR l.reltuples < 0 THEN 0 ELSE l.reltuples END)::float8 AS tuples,
            pg_catalog.md5(pg_catalog.string_agg(l.oid || ':' || COALESCE(pg_catalog.pg_relation_filenode(l.oid), 0), ',' ORDER BY l.oid)) AS storage,
            COALESCE(pg_catalog.bool_or(pg_catalog.pg_relation_size(NULLIF(l.reltoastrelid, 0)) > 0), false) AS out_of_line
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
    let columns = "SELECT a.attname::text, a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
            a.attgenerated <> ''
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum";
    let columns = client.query(columns, &[&oid]).await.map_err(doing())?;
    let (generated, columns): (Vec<_>, Vec<_>) = columns.iter().partition(|row| row.get(4));
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
        may_use_schema: row.get(8),
        out_of_line: row.get(9),
        generated: generated.iter().map(|row| row.get(0)).collect(),
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

/// An estimate of rows, by which progress is told, and of how many rows a sample is taken.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of rows, above 0 and far below 2^53"
)]
fn estimate(tuples: f64) -> u64 {
    tuples as u64
}

/// Whether a column can be the key.
///
/// # Errors
/// A query failed.
pub async fn key(client: &Client, table: u32, column: &str) -> Result<KeyFacts, Error> {
    // A table's or a partition's columns and indices have numbers and names of their own.
    let sql = "WITH leaf AS (
            SELECT c.oid, c.relreplident, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'r' AND (c.oid = $1 OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1)))
        ), key_index AS (
            SELECT DISTINCT ON (i.indrelid) i.indrelid, c.relname::text AS name
            FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
            JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
            WHERE (i.indrelid = $1 OR i.indrelid IN (SELECT oid FROM leaf))
              AND a.attname = $2::text AND NOT a.attisdropped AND i.indnkeyatts = 1
              AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
            ORDER BY i.indrelid, i.indisprimary DESC
        ), unidentified AS (
            SELECT leaf.oid, leaf.name FROM leaf WHERE leaf.relreplident <> 'f' AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = leaf.oid AND a.attname = $2::text
                WHERE i.indrelid = leaf.oid AND a.attnum = ANY (i.indkey)
                  AND ((leaf.relreplident = 'd' AND i.indisprimary) OR (leaf.relreplident = 'i' AND i.indisreplident)))
        )
        SELECT (SELECT name FROM key_index WHERE indrelid = $1),
            (SELECT COALESCE(pg_catalog.bool_and(relreplident = 'f'), false) FROM leaf),
            ARRAY(SELECT name FROM unidentified ORDER BY oid),
            ARRAY(SELECT k.name FROM unidentified u LEFT JOIN key_index k ON k.indrelid = u.oid ORDER BY u.oid)";
    let row = client
        .query_one(sql, &[&table, &column])
        .await
        .map_err(Error::doing(format!(
            "reading the facts of key column {column}"
        )))?;
    let (tables, indices): (Vec<String>, Vec<Option<String>>) = (row.get(2), row.get(3));
    let unidentified = tables.into_iter().zip(indices);
    Ok(KeyFacts {
        unique_index: row.get(0),
        identity_is_full: row.get(1),
        unidentified: unidentified
            .map(|(table, index)| Unidentified { table, index })
            .collect(),
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
    let sql = "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot,
            puballtables OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = $2)
        FROM pg_catalog.pg_publication p WHERE pubname = $1::text";
    let found = client.query_opt(sql, &[&name, &table.oid]).await;
    let Some(row) = found.map_err(doing())? else {
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
        has_table: row.get(2),
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
