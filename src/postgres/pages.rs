//! Rows in key order, page by page, each page as the table is when it is read.
//!
//! For a long walk beside a table at work: it holds no snapshot and no lock, so it keeps nothing from
//! being vacuumed, and what changed meanwhile is seen as it is.

use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::{
    Client, Statement,
    error::SqlState,
    types::{ToSql, Type as WireType},
};

use super::{
    Error,
    rows::{Packer, Query},
};
use crate::change::{Key, Row};

/// Which keys, both ends included; everything where there is none.
#[derive(Debug, Clone, Default)]
pub struct Range {
    /// The first key.
    pub from: Option<Key>,
    /// The last key.
    pub to: Option<Key>,
}

/// A walk over rows in key order.
#[derive(Debug)]
pub struct Pages<'a> {
    client: &'a Client,
    query: &'a Query,
    range: Range,
    /// The last key that was given, and the statement that goes on after it.
    after: Option<(Key, Statement)>,
}

impl<'a> Pages<'a> {
    /// Begins before the first row of the range.
    #[must_use]
    pub fn new(client: &'a Client, query: &'a Query, range: Range) -> Self {
        Self {
            client,
            query,
            range,
            after: None,
        }
    }

    /// The next rows: at most `rows`, and of not much more than `bytes_max` bytes; one at least, unless
    /// there is none any more.
    ///
    /// # Errors
    /// The statement failed; also when the table was altered since the first page.
    pub async fn next(&mut self, rows: usize, bytes_max: usize) -> Result<Vec<Row>, Error> {
        let doing = || Error::doing("reading the next rows in key order");
        let limit = i64::try_from(rows).unwrap_or(i64::MAX);
        let (statement, from) = if let Some((key, statement)) = &self.after {
            (statement.clone(), Some(key))
        } else {
            let first = self.range.from.as_ref();
            (self.prepare(first.map(|_| ">=")).await?, first)
        };
        let keys = from.into_iter().chain(&self.range.to);
        let keys: Vec<&str> = keys.map(Key::as_str).collect();
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            keys.iter().map(|key| key as &(dyn ToSql + Sync)).collect();
        parameters.push(&limit);
        let found = self
            .client
            .query_raw(&statement, parameters)
            .await
            .map_err(doing())?;
        let mut found = pin!(found);
        let mut packer = Packer::new(self.query.relation.clone());
        let (mut page, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some(row) = found.try_next().await.map_err(doing())?
        {
            let row = packer.pack(&row);
            bytes += row.bytes.len();
            page.push(row);
        }
        if let Some(key) = page.last().and_then(|row| row.key().ok()) {
            let statement = match self.after.take() {
                Some((_, statement)) => statement,
                None => self.prepare(Some(">")).await?,
            };
            self.after = Some((key, statement));
        }
        Ok(page)
    }

    async fn prepare(&self, from: Option<&str>) -> Result<Statement, Error> {
        let to = self.range.to.as_ref().map(|_| "<=");
        let comparisons: Vec<&str> = from.into_iter().chain(to).collect();
        let sql = format!(
            "{} LIMIT ${}::pg_catalog.int8",
            self.query.in_key_order(&comparisons),
            comparisons.len() + 1
        );
        self.client
            .prepare(&sql)
            .await
            .map_err(Error::doing("preparing to read rows in key order"))
    }
}

/// Those of `keys` that are in `range`, as the server compares keys. A text that is no value of the key's
/// type is in no range, but for the one of everything.
///
/// # Errors
/// The statement failed.
pub async fn within(
    client: &Client,
    query: &Query,
    range: &Range,
    keys: Vec<Key>,
) -> Result<Vec<Key>, Error> {
    let Query { key_type, .. } = query;
    let ends = [(&range.from, ">="), (&range.to, "<=")];
    let ends = ends
        .into_iter()
        .filter_map(|(end, comparison)| Some((end.as_ref()?.as_str(), comparison)));
    let (ends, comparisons): (Vec<&str>, Vec<&str>) = ends.unzip();
    if ends.is_empty() {
        return Ok(keys);
    }
    let conditions: Vec<String> = comparisons
        .iter()
        .enumerate()
        .map(|(place, comparison)| {
            format!(
                "key::{key_type} {comparison} ${}::pg_catalog.text::{key_type}",
                place + 2
            )
        })
        .collect();
    let sql = format!(
        "SELECT key FROM pg_catalog.unnest($1::pg_catalog.text[]) AS key WHERE {}",
        conditions.join(" AND ")
    );
    let rows = in_parts(&keys, "comparing keys with the range", async |texts| {
        let mut parameters: Vec<(&(dyn ToSql + Sync), WireType)> =
            vec![(&texts, WireType::TEXT_ARRAY)];
        parameters.extend(
            ends.iter()
                .map(|end| (end as &(dyn ToSql + Sync), WireType::TEXT)),
        );
        client.query_typed(&sql, &parameters).await
    });
    let rows = rows.await?;
    Ok(rows.iter().map(|row| Key::new(row.get(0))).collect())
}

/// The keys of about `rows` rows, and of no more, each as likely as any other, of a table of about
/// `estimated`. All rows are looked at, but for their out-of-line values.
///
/// # Errors
/// The statement failed.
pub async fn random_keys(
    client: &Client,
    query: &Query,
    rows: u32,
    estimated: Option<u64>,
) -> Result<Vec<Key>, Error> {
    #[expect(clippy::cast_precision_loss, reason = "a share of an estimate")]
    let percent = estimated.map_or(100.0, |all| f64::from(rows) * 100.0 / all.max(1) as f64);
    let query = query.keys_alone();
    let sql = query.at_random(percent.min(100.0));
    let found = client
        .query_typed(&sql, &[(&i64::from(rows), WireType::INT8)])
        .await
        .map_err(Error::doing("choosing rows at random"))?;
    let mut packer = Packer::new(query.relation.clone());
    let rows = found.iter().map(|row| packer.pack(row));
    Ok(rows.filter_map(|row| row.key().ok()).collect())
}

/// Those of `keys` that a row has. A text that is no value of the key's type is no row's.
///
/// # Errors
/// The statement failed.
pub async fn existing(client: &Client, query: &Query, keys: &[Key]) -> Result<Vec<Key>, Error> {
    let query = query.keys_alone();
    let sql = query.by_keys();
    let rows = in_parts(keys, "looking up the rows of documents", async |texts| {
        let parameters: [(&(dyn ToSql + Sync), WireType); 1] = [(&texts, WireType::TEXT_ARRAY)];
        client.query_typed(&sql, &parameters).await
    });
    let mut packer = Packer::new(query.relation.clone());
    let rows = rows.await?;
    let rows = rows.iter().map(|row| packer.pack(row));
    Ok(rows.filter_map(|row| row.key().ok()).collect())
}

/// Whether a text is a value of the key's type.
///
/// # Errors
/// The statement failed.
pub async fn is_key(client: &Client, query: &Query, text: &Key) -> Result<bool, Error> {
    let key_type = &query.key_type;
    let sql = format!(
        "SELECT key::{key_type}::pg_catalog.text FROM pg_catalog.unnest($1::pg_catalog.text[]) AS key"
    );
    let rows = in_parts(std::slice::from_ref(text), "trying a key", async |texts| {
        let parameters: [(&(dyn ToSql + Sync), WireType); 1] = [(&texts, WireType::TEXT_ARRAY)];
        client.query_typed(&sql, &parameters).await
    });
    Ok(!rows.await?.is_empty())
}

/// What a statement answers for these keys. Asked in parts, which leave out each text that is no value of
/// the key's type.
async fn in_parts(
    keys: &[Key],
    doing: &str,
    ask: impl AsyncFn(&[&str]) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>,
) -> Result<Vec<tokio_postgres::Row>, Error> {
    let texts: Vec<&str> = keys.iter().map(Key::as_str).collect();
    let mut found = Vec::new();
    let mut parts = vec![&*texts];
    while let Some(part) = parts.pop() {
        match ask(part).await {
            Ok(rows) => found.extend(rows),
            Err(error) if is_no_value(&error) => {
                if part.len() > 1 {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([first, second]);
                }
            }
            Err(error) => return Err(Error::doing(doing)(error)),
        }
    }
    Ok(found)
}

/// Whether a text was refused as a value of a type (manual: "PostgreSQL Error Codes", class 22).
fn is_no_value(error: &tokio_postgres::Error) -> bool {
    error
        .code()
        .map(SqlState::code)
        .is_some_and(|code| code.starts_with("22"))
}
