//! `sync-es` as the measurements run it: the defaults, but for what a figure is about.

use anyhow::{Context, Result, ensure};

use serde_json::Value;

use crate::{
    Bench,
    data::Kind,
    process::{Running, Settings, Usage},
};

/// The alias, and how the names of all that `sync-es` makes in Elasticsearch begin.
pub const ALIAS: &str = "bench";
/// The index that the alias is moved to.
pub const INDEX: &str = "bench_v1";

/// The settings of a run that reads `database` and writes to `elasticsearch_url`.
pub fn settings(bench: &Bench, database: &str, elasticsearch_url: &str, kind: Kind) -> Settings {
    Settings::from([
        ("POSTGRES_URL", bench.postgres.url(database)),
        ("ELASTICSEARCH_URLS", elasticsearch_url.to_owned()),
        ("ELASTICSEARCH_INDEX_NAME", INDEX.to_owned()),
        ("ELASTICSEARCH_INDEX_ALIAS", ALIAS.to_owned()),
        ("EMBEDDING_DIMENSIONS", kind.dimensions().to_string()),
        ("SYNC_ES_LOG_FORMAT", "json".to_owned()),
    ])
}

/// Starts `sync-es run`, with `--snapshot-only` for a snapshot alone; its log is `name`.log.
///
/// # Errors
/// It cannot be started.
pub fn start(
    bench: &Bench,
    settings: &Settings,
    snapshot_only: bool,
    name: &str,
) -> Result<Running> {
    let arguments: &[&str] = if snapshot_only {
        &["run", "--snapshot-only"]
    } else {
        &["run"]
    };
    let log = bench.work.join(format!("{name}.log"));
    Running::start(&bench.programs.sync_es, arguments, settings, &log)
}

/// A snapshot from its start to its end, into an Elasticsearch without anything of ours; `expected` is
/// the number of rows.
///
/// # Errors
/// It failed, or its log does not say that it is complete with all rows.
pub async fn snapshot(
    bench: &Bench,
    settings: &Settings,
    expected: u64,
    name: &str,
) -> Result<Usage> {
    bench.elasticsearch.clean(ALIAS).await?;
    let usage = start(bench, settings, true, name)?
        .wait()
        .await?
        .success()?;
    let line = logged(&usage.log, "the snapshot is complete")?;
    ensure!(line["rows"] == expected, "not all rows were read: {line}");
    Ok(usage)
}

/// The last line with that message in a log of JSON lines.
///
/// # Errors
/// There is none.
pub fn logged(log: &str, message: &str) -> Result<Value> {
    log.lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["message"] == message)
        .with_context(|| format!("the log does not say: {message}"))
}
