//! A `sync-es` that follows a table: its database, its index, its slot, and how far it has come.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hyper::Method;
use tokio_postgres::Client;

use crate::{
    Bench,
    changes::{Burst, Change},
    data::{self, Kind},
    job,
    process::{Running, Settings, Usage},
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(30);
/// Between two looks at what costs little to look at.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// What it takes to start one, again and again.
#[derive(Debug)]
pub struct Follower<'a> {
    /// What it runs in.
    pub bench: &'a Bench,
    /// Names alias and slot, and with an ending the index.
    pub name: String,
    settings: Settings,
    /// The database that it follows a table of.
    pub database: String,
    /// A session in that database.
    pub client: Client,
}

impl<'a> Follower<'a> {
    /// Copies the table of so many rows into a database called `name`; whatever an earlier one of that
    /// name has left is removed. `url` is Elasticsearch's or a sink's.
    ///
    /// # Errors
    /// A server refused something.
    pub async fn new(
        bench: &'a Bench,
        name: &str,
        (kind, rows): (Kind, u64),
        url: &str,
    ) -> Result<Self> {
        let template = data::database(bench, kind, rows).await?;
        bench.postgres.copy_database(&template, name).await?;
        let follower = Self::beside(bench, name, kind, name, url).await?;
        // A vacuum of its own accord would fall upon one contestant and not the other.
        let quiet = format!(
            "ALTER TABLE {} SET (autovacuum_enabled = off, toast.autovacuum_enabled = off)",
            data::TABLE
        );
        follower.client.batch_execute(&quiet).await?;
        Ok(follower)
    }

    /// One more follower, of a table that another one follows.
    ///
    /// # Errors
    /// A server refused something.
    pub async fn beside(
        bench: &'a Bench,
        database: &str,
        kind: Kind,
        name: &str,
        url: &str,
    ) -> Result<Self> {
        bench.elasticsearch.clean(name).await?;
        let mut settings = job::settings(bench, database, url, kind);
        settings.extend([
            ("ELASTICSEARCH_INDEX_NAME", format!("{name}_v1")),
            ("ELASTICSEARCH_INDEX_ALIAS", name.to_owned()),
            ("SYNC_ES_SLOT", name.to_owned()),
        ]);
        Ok(Self {
            bench,
            name: name.to_owned(),
            settings,
            database: database.to_owned(),
            client: bench.postgres.connect(database).await?,
        })
    }

    /// The index that it writes into.
    pub fn index(&self) -> String {
        format!("{}_v1", self.name)
    }

    /// Its replication slot.
    pub fn slot(&self) -> &str {
        &self.name
    }

    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self) -> Result<Running> {
        job::start(self.bench, &self.settings, false, &self.name)
    }

    /// Starts it and waits until the index is complete and everything committed is confirmed.
    ///
    /// # Errors
    /// It has ended, or takes too long.
    pub async fn start_and_catch_up(&self) -> Result<Running> {
        let running = self.start()?;
        self.caught_up(&running).await?;
        Ok(running)
    }

    /// Waits until the index is complete and everything that is committed now is confirmed.
    ///
    /// # Errors
    /// It has ended, or takes too long.
    pub async fn caught_up(&self, running: &Running) -> Result<()> {
        let alias = format!("/_alias/{}", self.name);
        let elasticsearch = &self.bench.elasticsearch;
        until(running, 10 * LOOK_INTERVAL, async || {
            let (status, _) = elasticsearch.try_request(Method::GET, &alias, None).await?;
            Ok(status.is_success())
        })
        .await
        .context("waiting for the alias")?;
        let end = self.mark_end().await?;
        self.confirmed(running, end).await
    }

    /// Waits until `end` is confirmed.
    ///
    /// # Errors
    /// It has ended, or takes too long.
    pub async fn confirmed(&self, running: &Running, end: u64) -> Result<()> {
        let sql = "SELECT (confirmed_flush_lsn - '0/0')::int8 FROM pg_replication_slots WHERE slot_name = $1";
        until(running, 10 * LOOK_INTERVAL, async || {
            let row = self.client.query_opt(sql, &[&self.name]).await?;
            let confirmed = row.and_then(|row| row.get::<_, Option<i64>>(0));
            Ok(confirmed.is_some_and(|confirmed| confirmed.unsigned_abs() >= end))
        })
        .await
        .context("waiting for the confirmation")?;
        Ok(())
    }

    /// Commits something behind everything that is committed now, and gives its LSN.
    ///
    /// # Errors
    /// The statement failed.
    pub async fn mark_end(&self) -> Result<u64> {
        let sql = "SELECT (pg_logical_emit_message(true, 'sync-es-bench', '') - '0/0')::int8";
        let row = self.client.query_one(sql, &[]).await?;
        Ok(row.get::<_, i64>(0).unsigned_abs())
    }

    /// Asks it to end, which it does in order.
    ///
    /// # Errors
    /// It ends with an error.
    pub async fn stop(&self, running: Running) -> Result<Usage> {
        running.terminate()?;
        running.wait().await?.success()
    }

    /// Lets the next contestant find the table and the server as this one did.
    ///
    /// # Errors
    /// A statement failed.
    pub async fn tidy(&self) -> Result<()> {
        let vacuum = format!("VACUUM {}", data::TABLE);
        self.client.batch_execute(&vacuum).await?;
        self.client.batch_execute("CHECKPOINT").await?;
        Ok(())
    }

    /// Changes the table; gives the moment before the first commit and an LSN behind the last, which is on
    /// the disk then.
    ///
    /// # Errors
    /// A statement failed.
    pub async fn change(&self, change: Change, burst: Burst) -> Result<(Instant, u64)> {
        let start = burst
            .make(self.bench, &self.database, &self.client, change)
            .await?;
        Ok((start, self.mark_end().await?))
    }

    /// Removes everything.
    ///
    /// # Errors
    /// A server refused it.
    pub async fn remove(self) -> Result<()> {
        drop(self.client);
        self.bench.postgres.drop_database(&self.database).await?;
        self.bench.elasticsearch.clean(&self.name).await
    }
}

/// Waits for a fact while the program runs; gives the moment at which it was seen.
///
/// # Errors
/// The program has ended, or it takes too long.
pub async fn until(
    running: &Running,
    interval: Duration,
    mut fact: impl AsyncFnMut() -> Result<bool>,
) -> Result<Instant> {
    let start = Instant::now();
    loop {
        if fact().await? {
            return Ok(Instant::now());
        }
        if running.has_ended()? {
            let log = running.log()?;
            anyhow::bail!("the program has ended:\n{log}");
        }
        ensure!(start.elapsed() < PATIENCE, "it takes too long");
        tokio::time::sleep(interval).await;
    }
}
