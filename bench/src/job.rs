//! `sync-es` as the measurements run it: the defaults, but for what a figure is about.

use anyhow::Result;

use crate::{
    Bench,
    data::Kind,
    process::{Running, Settings},
};

/// The alias, and how the names of all that `sync-es` makes in Elasticsearch begin.
pub const ALIAS: &str = "bench";
/// The index that the alias is moved to.
pub const INDEX: &str = "bench_v1";
/// The slot of an always-on run.
pub const SLOT: &str = "sync_es_bench";

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
