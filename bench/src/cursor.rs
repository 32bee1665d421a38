//! The rows read and thrown away, by the client library and the statements that `sync-es` uses
//! (`src/postgres/rows.rs`): what reading costs at least, at either end.
//!
//! Each reading is a process of its own, so that its account is its own.

use std::pin::pin;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use futures_util::TryStreamExt;
use tokio_postgres::{Client, types::ToSql};

use crate::{
    Bench,
    data::TABLE,
    postgres,
    process::{Running, Settings, Usage},
};

/// How rows are read; in binary form and in key order both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// A cursor, 10,000 rows a fetch
    Cursor,
    /// COPY … TO STDOUT
    Copy,
}

/// Reads the table in a process of its own.
///
/// # Errors
/// It failed, or did not find so many rows.
pub async fn measure(bench: &Bench, way: Way, database: &str, rows: u64) -> Result<Usage> {
    let way = if way == Way::Cursor { "cursor" } else { "copy" };
    let settings = Settings::from([("POSTGRES_URL", bench.postgres.url(database))]);
    let log = bench.work.join(format!("{way}.log"));
    let program = std::env::current_exe()?;
    let usage = Running::start(&program, &["read", way], &settings, &log)?
        .wait()
        .await?
        .success()?;
    ensure!(
        usage.log.trim() == rows.to_string(),
        "read {}, expected {rows}",
        usage.log.trim()
    );
    Ok(usage)
}

/// Reads the table and prints how many rows it had.
///
/// # Errors
/// A statement failed.
#[expect(clippy::print_stdout, reason = "the answer of a program of its own")]
pub async fn read(way: Way, url: &str) -> Result<()> {
    let client = postgres::connect(url).await?;
    let rows = match way {
        Way::Cursor => by_cursor(&client).await?,
        Way::Copy => by_copy(&client).await?,
    };
    println!("{rows}");
    Ok(())
}

async fn by_cursor(client: &Client) -> Result<u64> {
    let select = select(client).await?;
    client
        .batch_execute(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL cursor_tuple_fraction = 1;
             DECLARE bench NO SCROLL CURSOR FOR {select}"
        ))
        .await?;
    let fetch = client.prepare("FETCH FORWARD 10000 FROM bench").await?;
    let none: [&(dyn ToSql + Sync); 0] = [];
    let mut rows = 0;
    loop {
        let before = rows;
        let mut fetched = pin!(client.query_raw(&fetch, none).await?);
        while fetched.try_next().await?.is_some() {
            rows += 1;
        }
        if rows == before {
            return Ok(rows);
        }
    }
}

/// Each message of binary COPY is a row, the first behind the header; but the last is the trailer, a
/// number of fields of -1.
async fn by_copy(client: &Client) -> Result<u64> {
    let select = select(client).await?;
    let copy = format!("COPY ({select}) TO STDOUT (FORMAT binary)");
    let mut messages = pin!(client.copy_out(&copy).await?);
    let mut rows = 0;
    while let Some(message) = messages.try_next().await? {
        rows += u64::from(message.len() > size_of::<i16>());
    }
    Ok(rows)
}

async fn select(client: &Client) -> Result<String> {
    let columns = client
        .query_one(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
             WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
            &[&TABLE],
        )
        .await?;
    Ok(format!(
        "SELECT {} FROM {TABLE} ORDER BY hk",
        columns.get::<_, String>(0)
    ))
}
