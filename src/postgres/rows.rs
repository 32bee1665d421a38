//! Rows by a server-side cursor in key order, and rows by a list of keys.
//!
//! The cursor is `DECLARE` + a prepared `FETCH FORWARD n`, with binary results: as fast as binary
//! COPY, resumable, and in a few megabytes of memory whatever the fetch size, since rows are taken
//! from the socket as they come. Keys are compared by the server alone, with its own collation.

use std::{error::Error as StdError, pin::pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, TryStreamExt};
use tokio_postgres::{
    Client, Statement,
    error::SqlState,
    types::{FromSql, ToSql, Type as WireType},
};

use super::{Error, catalog::quoted};
use crate::{
    change::{Cell, Key, Relation, Row},
    value::{Type, TypeKind},
};

/// How the rows of a relation are asked for.
#[derive(Debug, Clone)]
pub struct Query {
    pub(super) relation: Arc<Relation>,
    select: String,
    pub(super) key: String,
    pub(super) key_type: String,
    /// The publication's row filter: the snapshot must see the rows that the stream sees.
    row_filter: Option<String>,
}

/// Which snapshot a cursor reads.
#[derive(Debug, Clone, Copy)]
pub enum View<'a> {
    /// The one that a slot exported when it was created.
    Exported(&'a str),
    /// One taken now; the caller has passed the barrier.
    Current,
}

impl Query {
    /// Rows of `relation`, only those that pass `row_filter` (SQL from the publication).
    #[must_use]
    pub fn new(relation: Arc<Relation>, row_filter: Option<String>) -> Self {
        let columns = relation.columns.iter().map(|column| {
            // A type without a send function travels as text on both paths.
            let cast = if column.ty.sent_as_text() {
                "::pg_catalog.text"
            } else {
                ""
            };
            format!("{}{cast}", quoted(&column.name))
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        let select = format!(
            "SELECT {columns} FROM {}.{}",
            quoted(&relation.schema),
            quoted(&relation.name)
        );
        let key = &relation.columns[relation.key];
        Self {
            key: quoted(&key.name),
            key_type: input_type(&key.ty),
            relation,
            select,
            row_filter,
        }
    }

    /// The key's type, as it is written in SQL.
    #[must_use]
    pub fn key_type(&self) -> &str {
        &self.key_type
    }

    /// The same rows with their key alone.
    #[must_use]
    pub fn keys_alone(&self) -> Self {
        let relation = Relation {
            columns: vec![self.relation.columns[self.relation.key].clone()],
            key: 0,
            ..(*self.relation).clone()
        };
        Self::new(Arc::new(relation), self.row_filter.clone())
    }

    /// The row filter as a condition that begins with `word`; nothing without one.
    fn filtered(&self, word: &str) -> String {
        let filter = self.row_filter.as_ref();
        filter
            .map(|filter| format!(" {word} ({filter})"))
            .unwrap_or_default()
    }

    /// So many rows (`$1`) of about `percent` in a hundred, each as likely as any other. They are shuffled
    /// before they are cut off, since they come as they lie in the table; the server keeps no more of
    /// them meanwhile than are wanted.
    pub(super) fn at_random(&self, percent: f64) -> String {
        let filter = self.filtered("WHERE");
        format!(
            "{} TABLESAMPLE BERNOULLI ({percent}){filter}
             ORDER BY pg_catalog.random() LIMIT $1::pg_catalog.int8",
            self.select
        )
    }

    /// The rows whose key is to parameter `$1`, `$2` … what `comparisons` says (`>`), in key order.
    pub(super) fn in_key_order(&self, comparisons: &[&str]) -> String {
        let (key, ty) = (&self.key, &self.key_type);
        let compare = |(place, comparison): (usize, &&str)| {
            format!("{key} {comparison} ${}::pg_catalog.text::{ty}", place + 1)
        };
        let mut conditions: Vec<String> = comparisons.iter().enumerate().map(compare).collect();
        conditions.extend(self.row_filter.as_ref().map(|filter| format!("({filter})")));
        let conditions = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        format!("{}{conditions} ORDER BY {}", self.select, self.key)
    }

    /// Whether the statement's columns are of the types that the relation has. A domain is announced
    /// as its base type.
    fn fits(&self, statement: &Statement) -> bool {
        let mut columns = self.relation.columns.iter().zip(statement.columns());
        columns.all(|(known, found)| {
            let mut ty = &known.ty;
            while let TypeKind::Domain(base) = &ty.kind {
                ty = base;
            }
            ty.sent_as_text() || ty.oid == found.type_().oid()
        })
    }

    pub(super) fn by_keys(&self) -> String {
        let filter = self.filtered("AND");
        format!(
            "{} WHERE {} = ANY ($1::pg_catalog.text[]::{}[]){filter}",
            self.select, self.key, self.key_type
        )
    }
}

/// The type that a key's text is cast to. The SQL names `character` and `bit` stand for a length of
/// one, so that a cast to them would cut the key.
fn input_type(ty: &Type) -> String {
    match ty.name.as_str() {
        "character" => "pg_catalog.bpchar".to_owned(),
        "bit" => "pg_catalog.varbit".to_owned(),
        name => name.to_owned(),
    }
}

/// An open cursor inside a transaction that holds ACCESS SHARE on the table, so that nothing can
/// rewrite it meanwhile.
#[derive(Debug)]
pub struct Cursor<'a> {
    client: &'a Client,
    relation: Arc<Relation>,
    fetch: Statement,
}

/// Opens a cursor over the rows after `after` (all when `None`), `fetch_rows` a fetch.
///
/// # Errors
/// The snapshot is gone, the table cannot be read or locked.
pub async fn open<'a>(
    client: &'a Client,
    query: &Query,
    view: View<'_>,
    after: Option<&Key>,
    fetch_rows: u32,
) -> Result<Cursor<'a>, Error> {
    let Relation { schema, name, .. } = &*query.relation;
    let doing = || Error::doing(format!("opening a cursor on {schema}.{name}"));
    let set_snapshot = match view {
        View::Exported(snapshot) => format!(
            "SET TRANSACTION SNAPSHOT '{}';",
            snapshot.replace('\'', "''")
        ),
        View::Current => String::new(),
    };
    // All rows are read in the end, so the plan that is cheapest as a whole is wanted.
    let begin = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {set_snapshot} SET LOCAL cursor_tuple_fraction = 1;
         LOCK TABLE {}.{} IN ACCESS SHARE MODE",
        quoted(schema),
        quoted(name)
    );
    client.batch_execute(&begin).await.map_err(doing())?;
    let declare = format!(
        "DECLARE sync_es_rows NO SCROLL CURSOR FOR {}",
        query.in_key_order(if after.is_some() { &[">"] } else { &[] })
    );
    let key = after.map(Key::as_str);
    let parameters: &[&(dyn ToSql + Sync)] = if key.is_some() { &[&key] } else { &[] };
    client
        .execute(&declare, parameters)
        .await
        .map_err(doing())?;
    let fetch = format!("FETCH FORWARD {fetch_rows} FROM sync_es_rows");
    let fetch = client.prepare(&fetch).await.map_err(doing())?;
    Ok(Cursor {
        client,
        relation: query.relation.clone(),
        fetch,
    })
}

impl Cursor<'_> {
    /// Asks for the next rows; the end is a fetch that gives none.
    ///
    /// # Errors
    /// The statement failed.
    pub async fn fetch(&self) -> Result<impl Stream<Item = Result<Row, Error>> + use<>, Error> {
        let doing = "fetching rows";
        let none: [&(dyn ToSql + Sync); 0] = [];
        let rows = self
            .client
            .query_raw(&self.fetch, none)
            .await
            .map_err(Error::doing(doing))?;
        let mut packer = Packer::new(self.relation.clone());
        Ok(rows
            .map_ok(move |row| packer.pack(&row))
            .map_err(|source| Error {
                doing: doing.to_owned(),
                source,
            }))
    }

    /// Ends the transaction and gives the lock back.
    ///
    /// # Errors
    /// The statement failed.
    pub async fn close(self) -> Result<(), Error> {
        self.client
            .batch_execute("COMMIT")
            .await
            .map_err(Error::doing("closing the cursor"))
    }
}

/// What came of reading rows by their keys.
#[derive(Debug)]
pub enum Found {
    /// Those that exist, in no order.
    Rows(Vec<Row>),
    /// They are larger than what was allowed: so many of them already.
    TooLarge {
        /// Rows that had come.
        rows: usize,
        /// Their bytes on the wire.
        bytes: usize,
    },
    /// The table does not look as the query has it: a column is gone or of another type.
    Altered,
}

/// Prepares the query of the rows with given keys; `None` as for [`Found::Altered`].
///
/// # Errors
/// The statement failed.
pub async fn prepare_by_keys(client: &Client, query: &Query) -> Result<Option<Statement>, Error> {
    match client.prepare(&query.by_keys()).await {
        Ok(statement) => Ok(query.fits(&statement).then_some(statement)),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => Ok(None),
        Err(error) => Err(Error::doing("preparing to read rows again by key")(error)),
    }
}

/// What a prepared statement fails with when the table has been altered; the second is "cached plan
/// must not change result type".
const ALTERED: [SqlState; 2] = [SqlState::UNDEFINED_COLUMN, SqlState::FEATURE_NOT_SUPPORTED];

/// The rows with these keys as they are now, through the query's `statement`. What is beyond
/// `bytes_max` is not kept.
///
/// # Errors
/// The statement failed.
pub async fn by_keys(
    client: &Client,
    query: &Query,
    statement: &Statement,
    keys: &[Key],
    bytes_max: usize,
) -> Result<Found, Error> {
    let keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
    let doing = || Error::doing(format!("reading {} rows again by key", keys.len()));
    let rows = match client.query_raw(statement, [&keys]).await {
        Ok(rows) => rows,
        Err(error) if error.code().is_some_and(|code| ALTERED.contains(code)) => {
            return Ok(Found::Altered);
        }
        Err(error) => return Err(doing()(error)),
    };
    let mut packer = Packer::new(query.relation.clone());
    let mut rows = pin!(rows);
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await.map_err(doing())? {
        let row = packer.pack(&row);
        bytes += row.bytes.len();
        found.push(row);
        if bytes > bytes_max {
            let rows = found.len();
            return Ok(Found::TooLarge { rows, bytes });
        }
    }
    Ok(Found::Rows(found))
}

/// A few rows, whichever the server finds first: `limit` of them at most, and no more once they have
/// `bytes_max` bytes.
///
/// # Errors
/// The statement failed.
pub async fn sample(
    client: &Client,
    query: &Query,
    limit: u32,
    bytes_max: usize,
) -> Result<Vec<Row>, Error> {
    let doing = || Error::doing("reading a sample of rows");
    let filter = query.filtered("WHERE");
    let statement = client
        .prepare(&format!("{}{filter} LIMIT {limit}", query.select))
        .await
        .map_err(doing())?;
    let none: [&(dyn ToSql + Sync); 0] = [];
    let rows = client.query_raw(&statement, none).await.map_err(doing())?;
    let mut packer = Packer::new(query.relation.clone());
    let mut rows = pin!(rows);
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < bytes_max
        && let Some(row) = rows.try_next().await.map_err(doing())?
    {
        let row = packer.pack(&row);
        bytes += row.bytes.len();
        found.push(row);
    }
    Ok(found)
}

/// Packs the client's rows into ours: one buffer a row, cut from larger chunks.
pub(super) struct Packer {
    relation: Arc<Relation>,
    chunk: BytesMut,
    /// Bytes of the last row: the next one is likely to take as many.
    expected: usize,
}

impl Packer {
    const CHUNK_BYTES: usize = 64 << 10;

    pub(super) fn new(relation: Arc<Relation>) -> Self {
        Self {
            relation,
            chunk: BytesMut::new(),
            expected: 0,
        }
    }

    pub(super) fn pack(&mut self, row: &tokio_postgres::Row) -> Row {
        if self.chunk.capacity() < self.expected {
            self.chunk = BytesMut::with_capacity(self.expected.max(Self::CHUNK_BYTES));
        }
        let cells = (0..row.len()).map(|column| {
            let raw = row.try_get::<_, Option<Raw<'_>>>(column).ok().flatten();
            self.cell(column, raw.map(|Raw(bytes)| bytes))
        });
        let cells = cells.collect();
        let bytes: Bytes = self.chunk.split().freeze();
        self.expected = bytes.len();
        Row {
            relation: self.relation.clone(),
            bytes,
            cells,
        }
    }

    fn cell(&mut self, column: usize, raw: Option<&[u8]>) -> Cell {
        let Some(raw) = raw else { return Cell::Null };
        let start = self.chunk.len();
        self.chunk.extend_from_slice(raw);
        let range = start..self.chunk.len();
        if self.relation.columns[column].ty.sent_as_text() {
            Cell::Text(range)
        } else {
            Cell::Binary(range)
        }
    }
}

/// A column's bytes as the server sent them, whatever the type.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &WireType, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &WireType) -> bool {
        true
    }
}
