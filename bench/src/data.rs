//! The tables: rows of the example generator (`examples/organizations`), one database for each kind and
//! number of them, made once and kept in the server. Whoever writes works in a copy of it.

use std::{fmt, io::Write, pin::pin, process::Stdio};

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::Bench;

/// What a row has beside its 23 other columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No embedding: about 700 bytes.
    Narrow,
    /// An embedding of 256 floats: 1.8 kB, stored in the row.
    Floats256,
    /// An embedding of 1,024 floats: out of line.
    Floats1024,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Narrow, Self::Floats256, Self::Floats1024];

    /// Elements of the index's vector field; there is one even where rows have none.
    pub fn dimensions(self) -> u32 {
        match self {
            Self::Narrow | Self::Floats256 => 256,
            Self::Floats1024 => 1024,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Narrow => "narrow",
            Self::Floats256 => "256 floats",
            Self::Floats1024 => "1,024 floats",
        })
    }
}

/// The table's name, in each database.
pub const TABLE: &str = "integrated_records";
/// Where the embedding stands among the table's columns.
const EMBEDDING: usize = 21;
/// COPY's word for it.
const NULL: &[u8] = b"\\N";
/// Bytes that are sent to COPY at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Gives the database with so many rows of that kind, with table and publication, vacuumed; makes it
/// unless the server has it already. Not to be written to: see [`crate::postgres::Postgres::copy_database`].
///
/// # Errors
/// It cannot be made.
pub async fn database(bench: &Bench, kind: Kind, rows: u64) -> Result<String> {
    let name = match kind {
        Kind::Narrow => format!("bench_data_narrow_{rows}"),
        Kind::Floats256 | Kind::Floats1024 => format!("bench_data_{}_{rows}", kind.dimensions()),
    };
    let admin = bench.postgres.admin().await?;
    let complete = admin
        .query_opt(
            "SELECT FROM pg_database WHERE datname = $1 AND shobj_description(oid, 'pg_database') = 'complete'",
            &[&name],
        )
        .await?;
    if complete.is_some() {
        return Ok(name);
    }
    eprintln!("bench: making {rows} rows, {kind}");
    bench.postgres.drop_database(&name).await?;
    admin
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await?;
    fill(bench, &name, kind, rows)
        .await
        .with_context(|| format!("making {rows} rows, {kind}"))?;
    admin
        .batch_execute(&format!(
            "COMMENT ON DATABASE {name} IS 'complete'; CHECKPOINT"
        ))
        .await?;
    Ok(name)
}

async fn fill(bench: &Bench, database: &str, kind: Kind, rows: u64) -> Result<()> {
    let client = bench.postgres.connect(database).await?;
    client
        .batch_execute(include_str!("../../sql/01-table.sql"))
        .await?;
    client
        .batch_execute(include_str!("../../sql/02-publication.sql"))
        .await?;
    let mut generator = Command::new(&bench.programs.organizations)
        .args(["--rows", &rows.to_string(), "--dimensions", "1"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting the generator of rows")?;
    let output = generator.stdout.take().context("no output")?;
    let mut lines = BufReader::with_capacity(CHUNK_BYTES, output);
    let mut copy = pin!(
        client
            .copy_in::<_, Bytes>(&format!("COPY {TABLE} FROM STDIN"))
            .await?
    );
    let mut chunk = BytesMut::with_capacity(2 * CHUNK_BYTES);
    let mut line = Vec::new();
    let mut rng = fastrand::Rng::with_seed(1);
    while lines.read_until(b'\n', &mut line).await? > 0 {
        append(&line, kind, &mut rng, &mut chunk)?;
        line.clear();
        if chunk.len() >= CHUNK_BYTES {
            copy.send(chunk.split().freeze()).await?;
        }
    }
    copy.send(chunk.freeze()).await?;
    ensure!(copy.finish().await? == rows, "not all rows were copied");
    ensure!(generator.wait().await?.success(), "the generator failed");
    client
        .batch_execute(&format!("VACUUM (ANALYZE, FREEZE) {TABLE}"))
        .await?;
    Ok(())
}

/// Appends a line of COPY text with another embedding. The generator's are mostly zeros, which neither
/// PostgreSQL nor Elasticsearch takes as long as a model's: here all elements are full of digits, so that
/// 1,024 of them are stored out of line. A row without one stays so. Fields never hold a tab.
fn append(line: &[u8], kind: Kind, rng: &mut fastrand::Rng, chunk: &mut BytesMut) -> Result<()> {
    for (column, field) in line.split(|byte| *byte == b'\t').enumerate() {
        if column > 0 {
            chunk.extend_from_slice(b"\t");
        }
        match (column, kind) {
            (EMBEDDING, Kind::Narrow) => chunk.extend_from_slice(NULL),
            (EMBEDDING, _) if field != NULL => {
                let mut separator = '{';
                let mut writer = chunk.writer();
                for _ in 0..kind.dimensions() {
                    write!(writer, "{separator}{}", rng.f32() - 0.5)?;
                    separator = ',';
                }
                writer.write_all(b"}")?;
            }
            _ => chunk.extend_from_slice(field),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(line: &str, kind: Kind) -> String {
        let mut chunk = BytesMut::new();
        append(
            line.as_bytes(),
            kind,
            &mut fastrand::Rng::with_seed(1),
            &mut chunk,
        )
        .unwrap();
        String::from_utf8(chunk.to_vec()).unwrap()
    }

    #[test]
    fn only_the_embedding_is_another_one() {
        let before = "x\t".repeat(EMBEDDING);
        let line = format!("{before}{{0,1}}\tlast\n");
        assert_eq!(
            appended(&line, Kind::Narrow),
            format!("{before}\\N\tlast\n")
        );
        let dense = appended(&line, Kind::Floats256);
        let fields: Vec<&str> = dense.split('\t').collect();
        assert_eq!(fields[EMBEDDING].split(',').count(), 256);
        assert_eq!(fields[EMBEDDING + 1], "last\n");
        let without = format!("{before}\\N\tlast\n");
        assert_eq!(appended(&without, Kind::Floats1024), without);
    }
}
