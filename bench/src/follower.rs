//! A `sync-es` that follows a table: its database, its index, its slot, and how far it has come.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hyper::Method;
use tokio_postgres::Client;

use crate::{
    Bench,
    changes::{self, Change},
    data::{self, Kind},
    job,
    operations::Operations,
    process::{Running, Settings, Usage},
    sink::Sink,
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Between two looks at what costs little to look at.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// What it takes to start one, again and again.
#[derive(Debug)]
pub struct Follower<'a> {
    bench: &'a Bench,
    /// Names alias and slot, and with an ending the index.
    name: String,
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

    /// Makes changes that nobody reads yet; gives an LSN behind them.
    ///
    /// # Errors
    /// A statement failed.
    pub async fn change_in_transactions(&self, change: Change, transactions: u64) -> Result<u64> {
        changes::in_transactions(self.bench, &self.database, change, transactions).await?;
        self.mark_end().await
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

/// A second `sync-es` beside a follower, with a slot and an index of its own: what it sends is kept, so
/// that the raw client can send it too.
#[derive(Debug)]
pub struct Recorder<'a> {
    follower: Follower<'a>,
    sink: Sink,
}

impl<'a> Recorder<'a> {
    /// Beside `follower`, of the same table.
    ///
    /// # Errors
    /// A server refused something.
    pub async fn new(follower: &Follower<'a>, kind: Kind) -> Result<Self> {
        let name = format!("{}_recorder", follower.name);
        let bench = follower.bench;
        let sink = Sink::start(&bench.elasticsearch, &format!("{name}_v"), true).await?;
        let follower = Follower::beside(bench, &follower.database, kind, &name, sink.url()).await?;
        Ok(Self { follower, sink })
    }

    /// The table's documents: a snapshot, as operations.
    ///
    /// # Errors
    /// It has ended, or takes too long.
    pub async fn documents(&self) -> Result<Operations> {
        let running = self.follower.start_and_catch_up().await?;
        self.follower.stop(running).await?;
        Ok(self.sink.take_kept())
    }

    /// So many changes since then, the last of them before `end`, as operations.
    ///
    /// # Errors
    /// It has ended, or takes too long.
    pub async fn changes(&self, changes: u64, end: u64) -> Result<Operations> {
        catch_up(&self.follower, Books::Sink(&self.sink), changes, end).await?;
        Ok(self.sink.take_kept())
    }
}

/// Who counts the operations that were acknowledged.
#[derive(Debug, Clone, Copy)]
pub enum Books<'a> {
    /// The sink.
    Sink(&'a Sink),
    /// Elasticsearch itself, for this index.
    Index(&'a Bench, &'a str),
}

impl Books<'_> {
    /// How many until now.
    ///
    /// # Errors
    /// Elasticsearch does not say.
    pub async fn operations(self) -> Result<u64> {
        match self {
            Self::Sink(sink) => Ok(sink.operations()),
            Self::Index(bench, index) => Ok(Indexing::look(bench, index).await?.done),
        }
    }

    /// Waits until there are `count`; gives the moment.
    ///
    /// # Errors
    /// The program has ended, or takes too long.
    pub async fn reach(self, running: &Running, count: u64) -> Result<Instant> {
        let interval = match self {
            Self::Sink(_) => LOOK_INTERVAL,
            // It costs Elasticsearch something.
            Self::Index(..) => 10 * LOOK_INTERVAL,
        };
        until(running, interval, async || {
            Ok(self.operations().await? >= count)
        })
        .await
        .context("waiting for the operations")
    }
}

/// How long it took to catch up.
#[derive(Debug)]
pub struct CaughtUp {
    /// From before the process was started.
    pub since_start: Duration,
    /// From when it asked for the stream.
    pub since_streaming: Duration,
    /// What the process used, its end included.
    pub usage: Usage,
}

/// Starts a follower that `changes` wait for, the last of them before `end`, and stops it when it has
/// them all.
///
/// # Errors
/// It has ended, or takes too long.
pub async fn catch_up(
    follower: &Follower<'_>,
    books: Books<'_>,
    changes: u64,
    end: u64,
) -> Result<CaughtUp> {
    let before = books.operations().await?;
    let running = follower.start()?;
    let streaming = until(&running, LOOK_INTERVAL, async || {
        Ok(running.log()?.contains("\"streaming changes\""))
    })
    .await
    .context("waiting for the stream")?;
    let done = books.reach(&running, before + changes).await?;
    let since_start = done - running.started();
    // That it has them all is its claim, not only the count's.
    follower.confirmed(&running, end).await?;
    Ok(CaughtUp {
        since_start,
        since_streaming: done - streaming,
        usage: follower.stop(running).await?,
    })
}

/// How long it took to follow.
#[derive(Debug, Clone, Copy)]
pub struct Followed {
    /// From the first commit to the last acknowledgement.
    pub all: Duration,
    /// From the first commit to the last.
    pub writing: Duration,
}

/// Starts a follower, changes the table in so many transactions while it runs, and stops it when it has
/// them all.
///
/// # Errors
/// It has ended, or takes too long.
pub async fn follow(
    follower: &Follower<'_>,
    books: Books<'_>,
    change: Change,
    transactions: u64,
) -> Result<Followed> {
    let running = follower.start_and_catch_up().await?;
    let before = books.operations().await?;
    let start = Instant::now();
    changes::in_transactions(follower.bench, &follower.database, change, transactions).await?;
    // The last commits did not wait for the disk; this one does.
    follower.mark_end().await?;
    let writing = start.elapsed();
    let all = before + changes::changes_of(transactions);
    let done = books.reach(&running, all).await?;
    follower.stop(running).await?;
    Ok(Followed {
        all: done - start,
        writing,
    })
}

/// What Elasticsearch has counted for an index.
#[derive(Debug, Clone, Copy)]
pub struct Indexing {
    /// Documents written and deleted.
    pub done: u64,
    /// Operations that wrote nothing, since a newer version was there.
    pub refused: u64,
}

impl Indexing {
    /// As it stands.
    ///
    /// # Errors
    /// Elasticsearch does not say; an index that is not there yet has counted nothing.
    pub async fn look(bench: &Bench, index: &str) -> Result<Self> {
        let path = format!("/{index}/_stats/indexing?filter_path=_all.primaries.indexing");
        let (_, stats) = bench
            .elasticsearch
            .try_request(Method::GET, &path, None)
            .await?;
        let indexing = &stats["_all"]["primaries"]["indexing"];
        let count = |name: &str| indexing[name].as_u64().unwrap_or_default();
        Ok(Self {
            done: count("index_total") + count("delete_total"),
            refused: count("index_failed"),
        })
    }
}

/// Waits until Elasticsearch has merged what it has to merge in an index.
///
/// # Errors
/// It does not say.
pub async fn settled(bench: &Bench, index: &str) -> Result<()> {
    let elasticsearch = &bench.elasticsearch;
    let refresh = format!("/{index}/_refresh");
    elasticsearch.request(Method::POST, &refresh, None).await?;
    let path = format!("/{index}/_stats/merge?filter_path=_all.primaries.merges.current");
    loop {
        let stats = elasticsearch.request(Method::GET, &path, None).await?;
        if stats["_all"]["primaries"]["merges"]["current"] == 0 {
            return Ok(());
        }
        tokio::time::sleep(25 * LOOK_INTERVAL).await;
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
