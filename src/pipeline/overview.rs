//! How a run stands, from what both ends hold: it works while the program runs and while it does not.
//!
//! Nothing is written, made, locked or refreshed, and an end that does not answer takes nothing away
//! from what the other tells.

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Failure,
    generation::{is_of, names_at_work, pattern},
    plan::Names,
    prepare::{dead_letters_index, metadata_index},
};
use crate::{
    change::Lsn,
    elasticsearch::{Client, DeadLetters, Phase, RecordsError, Run, Runs, alias_targets, indices},
    postgres::{self, slot},
    stop::Stop,
};

/// Runs that are told of, at most.
const HISTORY: u32 = 10;

/// A run, its slot and its index, as both ends have them now.
#[derive(Debug, Default, Serialize)]
pub struct Overview {
    /// The generation of the index that is at work.
    pub index: String,
    /// The latest run, as it stored itself last.
    pub run: Option<RunView>,
    /// The runs before it, latest first.
    pub history: Vec<RunView>,
    /// The indices that the alias points to.
    pub alias_points_to: Vec<String>,
    /// Documents that were set aside in the run's index.
    pub dead_letters: Option<u64>,
    /// End of PostgreSQL's WAL.
    pub wal_end: Option<Lsn>,
    /// From the stored position to the end of the WAL.
    pub lag_bytes: Option<u64>,
    /// The slot; none also when PostgreSQL does not answer.
    pub slot: Option<SlotView>,
    /// The other generations of the index.
    pub beside: Vec<Beside>,
}

/// A generation that is not at work: the one before, or one that a rebuild fills.
#[derive(Debug, Clone, Serialize)]
pub struct Beside {
    /// The index.
    pub index: String,
    /// Its slot, if it has one still.
    pub slot: Option<SlotView>,
}

/// A run, as it stored itself last.
#[derive(Debug, Clone, Serialize)]
pub struct RunView {
    /// Its number.
    pub number: u64,
    /// What it was doing.
    pub phase: Phase,
    /// The table.
    pub table: String,
    /// The concrete index.
    pub index: String,
    /// The slot; none for a one-shot run.
    pub slot: Option<String>,
    /// Up to where everything is resolved.
    pub position: Option<Lsn>,
    /// The key up to which the snapshot is in.
    pub last_key: Option<String>,
    /// The snapshot is complete.
    pub snapshot_complete: bool,
    /// Rows and changes that came.
    pub operations: u64,
    /// Those of them that are dead letters.
    pub dead_letters: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it stored itself last.
    pub updated_at: Timestamp,
    /// When it ended, if it said so.
    pub finished_at: Option<Timestamp>,
    /// What stopped it.
    pub error: Option<String>,
    /// On which host.
    pub host: String,
    /// The program's version.
    pub version: String,
}

/// The slot as PostgreSQL shows it.
#[derive(Debug, Clone, Serialize)]
pub struct SlotView {
    /// Its name.
    pub name: String,
    /// Somebody streams from it.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Changes before it are gone.
    pub confirmed: Option<Lsn>,
    /// WAL that is kept for it.
    pub retained_bytes: Option<u64>,
    /// WAL that can still be written before it is in danger; none without a limit.
    pub safe_bytes: Option<i64>,
}

impl From<Run> for RunView {
    fn from(run: Run) -> Self {
        Self {
            number: run.number,
            phase: run.phase,
            table: run.input_postgres_table,
            index: run.output_es_index,
            slot: run.slot,
            position: run.acknowledged_lsn,
            last_key: run.last_synced_item,
            snapshot_complete: run.sync_finished,
            operations: run.n_input_records,
            dead_letters: run.n_dead_letters,
            started_at: run.started_at,
            updated_at: run.updated_at,
            finished_at: run.finished_at,
            error: run.error,
            host: run.host,
            version: run.program_version,
        }
    }
}

impl Overview {
    /// Asks both ends, and gives what could not be asked.
    pub async fn look(
        client: &Client,
        postgres: &postgres::Options,
        settings: &Names,
    ) -> (Self, Vec<Stop>) {
        let mut overview = Self::default();
        let mut troubles = Vec::new();
        // Where that cannot be asked, the same trouble is told of the records.
        let names = &names_at_work(client, settings).await;
        let (records, slot) = tokio::join!(records(client, names), slot(postgres, &names.slot));
        match records {
            Ok(records) => overview = records,
            Err(error) => troubles.push(Stop::Elasticsearch(error.to_string())),
        }
        match slot {
            Ok((wal_end, slot)) => (overview.wal_end, overview.slot) = (Some(wal_end), slot),
            Err(stop) => troubles.push(stop),
        }
        match beside(client, postgres, names).await {
            Ok(beside) => overview.beside = beside,
            // Whichever end it is, it has been told above.
            Err(failure) => tracing::debug!(?failure, "looking at the other generations"),
        }
        overview.index.clone_from(&names.index);
        let position = overview.run.as_ref().and_then(|run| run.position);
        let behind = |(end, position): (Lsn, Lsn)| end.0.saturating_sub(position.0);
        overview.lag_bytes = overview.wal_end.zip(position).map(behind);
        (overview, troubles)
    }
}

async fn records(client: &Client, names: &Names) -> Result<Overview, RecordsError> {
    let server = client.ping().await?;
    let mut runs = Runs::new(client, &metadata_index(names), &names.index)
        .history(HISTORY)
        .await?
        .into_iter();
    let Some(run) = runs.next() else {
        return Ok(Overview::default());
    };
    let letters = DeadLetters::new(
        client,
        server.distribution,
        &dead_letters_index(names),
        &run.index_uuid,
    );
    Ok(Overview {
        dead_letters: Some(letters.count_seen().await?),
        alias_points_to: alias_targets(client, &names.alias).await?,
        run: Some(run.into()),
        history: runs.map(RunView::from).collect(),
        ..Overview::default()
    })
}

async fn beside(
    client: &Client,
    postgres: &postgres::Options,
    names: &Names,
) -> Result<Vec<Beside>, Failure> {
    let mut beside = Vec::new();
    for look in indices(client, &pattern(names)).await? {
        if !is_of(&look, names) || look.index == names.index {
            continue;
        }
        let slot = match look.slot() {
            Some(name) if name != names.slot => slot(postgres, name).await?.1,
            _ => None,
        };
        let index = look.index;
        beside.push(Beside { index, slot });
    }
    Ok(beside)
}

async fn slot(options: &postgres::Options, name: &str) -> Result<(Lsn, Option<SlotView>), Stop> {
    let trouble = |error: &dyn std::fmt::Display| Stop::Postgres(error.to_string());
    let session = postgres::connect(options)
        .await
        .map_err(|error| trouble(&error))?;
    let (wal_end, found) = slot::retention(&session.client, name)
        .await
        .map_err(|error| trouble(&error))?;
    let view = found.map(|found| SlotView {
        name: name.to_owned(),
        active: found.active,
        wal_status: found.wal_status,
        confirmed: found.confirmed_flush,
        retained_bytes: found.retained_bytes,
        safe_bytes: found.safe_bytes,
    });
    Ok((wal_end, view))
}
