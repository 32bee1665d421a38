//! Watches, while a test runs, that nothing is confirmed to PostgreSQL that Elasticsearch has not.
//!
//! A second slot, read through SQL, tells which keys the transactions below the program's
//! `confirmed_flush_lsn` changed. PostgreSQL will never send those again, so each such key's document
//! must by then be at that commit's version or above, or be gone because the key was deleted.
//!
//! It survives a restart of either server: the audit slot is moved only past what has been read, and
//! what a crash of PostgreSQL makes it send again is known by its LSN.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use elasticsearch::http::{Method, Url};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Row, types::ToSql};

use super::{
    Search, wait_until,
    world::{World, connect_again, connection_is_lost},
};

/// Keys that are looked up after one advance, at most; the latest commits come first, for they are
/// the ones that a confirmation could have run ahead of.
const SAMPLE: usize = 1_000;
/// Keys that begin so are not judged: their documents may be refused, and a dead letter is then all
/// that there is.
pub(crate) const REFUSED: &str = "refused-";
/// Between two looks at the slot.
const PAUSE: Duration = Duration::from_millis(100);

/// A monitor at work.
pub(crate) struct AckMonitor {
    task: JoinHandle<Found>,
    stop: Arc<AtomicBool>,
    knows_the_slot: Arc<AtomicBool>,
}

/// What a monitor saw.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Advances of `confirmed_flush_lsn`.
    pub(crate) advances: u64,
    /// Keys that were looked up.
    pub(crate) keys: u64,
    /// What was confirmed too early.
    pub(crate) violations: Vec<String>,
}

/// A committed transaction: where its commit record begins, and the last thing done to each key.
struct Transaction {
    commit: u64,
    keys: BTreeMap<String, Last>,
    /// Keys that it deleted, if only in passing.
    deletes: BTreeSet<String>,
    truncates: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Written,
    Deleted,
}

impl AckMonitor {
    /// Starts to watch; call it before the program and the writers start. The table must have
    /// REPLICA IDENTITY DEFAULT, for the second slot sends the key alone.
    pub(crate) async fn start(world: &World) -> Self {
        let audit = format!("audit_{}", world.name);
        world
            .execute(&format!(
                "CREATE PUBLICATION {audit} FOR TABLE integrated_records (hk)"
            ))
            .await;
        world
            .ask::<String>(&format!(
                "SELECT slot_name::text FROM pg_create_logical_replication_slot('{audit}', 'pgoutput')"
            ))
            .await;
        let stop = Arc::new(AtomicBool::new(false));
        let knows_the_slot = Arc::new(AtomicBool::new(false));
        let watch = Watch {
            db: world.connection().await,
            url: world.postgres_url(),
            search: Search::connect(world.elasticsearch_url()).await,
            audit,
            slot: world.slot(),
            index: world.index(),
            runs: format!("{}-sync-metadata", world.alias()),
            transactions: VecDeque::new(),
            last_commit: 0,
            is_known: false,
            found: Found::default(),
            knows_the_slot: Arc::clone(&knows_the_slot),
        };
        Self {
            task: tokio::spawn(watch.run(Arc::clone(&stop))),
            stop,
            knows_the_slot,
        }
    }

    /// Waits until the monitor knows the slot's position, from which on it judges.
    pub(crate) async fn knows_the_slot(&self) {
        wait_until("the monitor knows the slot", async || {
            self.knows_the_slot.load(Ordering::Relaxed).then_some(())
        })
        .await;
    }

    /// Ends the watch; fails the test if anything was confirmed too early, or nothing was looked at.
    pub(crate) async fn finish(self) -> Found {
        let found = self.end().await;
        assert!(
            found.violations.is_empty(),
            "confirmed too early: {:#?}",
            found.violations
        );
        assert!(found.keys > 0, "the monitor has seen nothing: {found:?}");
        found
    }

    /// Ends the watch.
    pub(crate) async fn end(self) -> Found {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

struct Watch {
    db: Client,
    url: Url,
    search: Search,
    audit: String,
    slot: String,
    index: String,
    runs: String,
    /// Read from the audit slot and not yet confirmed by the program, in commit order.
    transactions: VecDeque<Transaction>,
    /// The latest commit that was read.
    last_commit: u64,
    /// Whether the transaction that is being read was read before.
    is_known: bool,
    found: Found,
    knows_the_slot: Arc<AtomicBool>,
}

impl Watch {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Found {
        let mut before = None;
        loop {
            // Once more after the end, so that the last advance is looked at as well.
            let last = stop.load(Ordering::Relaxed);
            let confirmed = self.confirmed().await;
            match (before, confirmed) {
                // What is below the first position came with the snapshot.
                (None, Some(first)) => {
                    self.read().await;
                    self.take_below(first);
                    self.knows_the_slot.store(true, Ordering::Relaxed);
                }
                (Some(old), Some(new)) if new > old => {
                    self.found.advances += 1;
                    self.advanced(new).await;
                }
                _ => {}
            }
            before = confirmed.max(before);
            if last {
                return self.found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn confirmed(&mut self) -> Option<u64> {
        let query = "SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = $1";
        let slot = self.slot.clone();
        let rows = self.query(query, &[&slot]).await;
        let lsn = rows.first()?.get::<_, Option<i64>>(0)?;
        Some(u64::try_from(lsn).unwrap())
    }

    async fn advanced(&mut self, confirmed: u64) {
        self.read().await;
        // Last operation and commit of each key, over all transactions that are now confirmed.
        let mut due: BTreeMap<String, (u64, Last)> = BTreeMap::new();
        let begins = self.stream_begins().await;
        for transaction in self.take_below(confirmed) {
            if begins.is_none_or(|begins| transaction.commit < begins) {
                continue;
            }
            if transaction.truncates {
                for judged in due.values_mut() {
                    *judged = (transaction.commit, Last::Deleted);
                }
            }
            let judged = transaction.keys.into_iter();
            for (key, last) in judged.filter(|(key, _)| !key.starts_with(REFUSED)) {
                due.insert(key, (transaction.commit, last));
            }
        }
        let mut due: Vec<(String, u64, Last)> = due
            .into_iter()
            .map(|(key, (commit, last))| (key, commit, last))
            .collect();
        due.sort_by_key(|(_, commit, _)| std::cmp::Reverse(*commit));
        due.truncate(SAMPLE);
        if due.is_empty() {
            return;
        }
        self.found.keys += due.len() as u64;
        let ids: Vec<&str> = due.iter().map(|(key, ..)| key.as_str()).collect();
        let stored = self.search.stored(&self.index, &ids, false).await;
        let mut absent = Vec::new();
        for ((key, commit, last), stored) in due.into_iter().zip(stored) {
            let confirmed = format!("commit {commit:#X} is confirmed ({confirmed:#X})");
            match stored {
                // The least version that a change of this commit has.
                Some(stored) if stored.version < (commit >> 3) << 12 => self.found.violations.push(
                    format!("{key:?}: {confirmed}, version {} is stored", stored.version),
                ),
                None if last == Last::Written => absent.push((key, confirmed)),
                _ => {}
            }
        }
        self.judge_absent(absent).await;
    }

    /// Where the slot's stream begins, once the slot is known to the run: a slot that had to be made
    /// anew begins further on, and what committed below comes with its snapshot.
    async fn stream_begins(&self) -> Option<u64> {
        let path = format!("/{}/_search", self.runs);
        let body = json!({ "size": 1, "sort": [{ "number": "desc" }] });
        self.search
            .ask(Method::Post, &format!("/{}/_refresh", self.runs), None)
            .await;
        let (status, answer) = self.search.ask(Method::Post, &path, Some(body)).await;
        if status == 404 {
            return Some(0);
        }
        let run = &answer["hits"]["hits"][0]["_source"];
        if run["phase"] == "preparing" {
            return None;
        }
        let (high, low) = run["consistent_point"].as_str()?.split_once('/')?;
        let part = |part| u64::from_str_radix(part, 16).unwrap();
        Some(part(high) << 32 | part(low))
    }

    /// A written key may be absent only if it was deleted since, which the audit slot then tells; that
    /// delete need not be confirmed yet.
    async fn judge_absent(&mut self, absent: Vec<(String, String)>) {
        if absent.is_empty() {
            return;
        }
        self.read().await;
        for (key, confirmed) in absent {
            let deleted_since = self
                .transactions
                .iter()
                .any(|transaction| transaction.truncates || transaction.deletes.contains(&key));
            if !deleted_since {
                self.found
                    .violations
                    .push(format!("{key:?}: {confirmed}, no document is stored"));
            }
        }
    }

    /// Takes the transactions that PostgreSQL, told `confirmed`, will not send again: those whose
    /// commit record begins below it (`SnapBuildXactNeedsSkip`).
    fn take_below(&mut self, confirmed: u64) -> Vec<Transaction> {
        let count = self
            .transactions
            .partition_point(|transaction| transaction.commit < confirmed);
        self.transactions.drain(..count).collect()
    }

    /// Reads what the audit slot has, to the end of the log.
    async fn read(&mut self) {
        let audit = self.audit.clone();
        let end = self
            .query("SELECT pg_current_wal_flush_lsn()::text", &[])
            .await;
        let end: String = end[0].get(0);
        let changes = "SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL,
                         'proto_version', '1', 'publication_names', $2)";
        for row in self.query(changes, &[&audit, &audit]).await {
            let message: &[u8] = row.get(0);
            self.take(message);
        }
        let advance = "SELECT pg_replication_slot_advance($1, $2::text::pg_lsn)::text";
        self.query(advance, &[&audit, &end]).await;
    }

    /// Asks again on a new connection when PostgreSQL has ended meanwhile.
    async fn query(&mut self, query: &str, parameters: &[&str]) -> Vec<Row> {
        loop {
            let parameters = parameters.iter().map(|text| text as &(dyn ToSql + Sync));
            let parameters: Vec<_> = parameters.collect();
            match self.db.query(query, &parameters).await {
                Ok(rows) => return rows,
                Err(error) if connection_is_lost(&error) => {
                    self.db = connect_again(&self.url).await;
                }
                Err(error) => panic!("{query}\n{error:?}"),
            }
        }
    }

    /// One pgoutput message (manual: "Logical Replication Message Formats"). The relation has one
    /// column, the key.
    fn take(&mut self, message: &[u8]) {
        let (kind, rest) = message.split_first().unwrap();
        if *kind == b'B' {
            let commit = u64::from_be_bytes(rest[..8].try_into().unwrap());
            self.is_known = commit <= self.last_commit;
            if self.is_known {
                return;
            }
            self.last_commit = commit;
            self.transactions.push_back(Transaction {
                commit,
                keys: BTreeMap::new(),
                deletes: BTreeSet::new(),
                truncates: false,
            });
            return;
        }
        let Some(open) = self.transactions.back_mut().filter(|_| !self.is_known) else {
            return;
        };
        match kind {
            b'I' => open.note(&rest[5..], Last::Written),
            b'U' => match rest[4] {
                b'K' => {
                    let new = open.note_and_skip(&rest[5..], Last::Deleted);
                    open.note(&new[1..], Last::Written);
                }
                _ => open.note(&rest[5..], Last::Written),
            },
            b'D' => open.note(&rest[5..], Last::Deleted),
            b'T' => {
                open.truncates = true;
                for last in open.keys.values_mut() {
                    *last = Last::Deleted;
                }
            }
            _ => {}
        }
    }
}

impl Transaction {
    fn note(&mut self, tuple: &[u8], last: Last) {
        self.note_and_skip(tuple, last);
    }

    /// Notes the key in a `TupleData` of one text column; returns what follows it.
    fn note_and_skip<'a>(&mut self, tuple: &'a [u8], last: Last) -> &'a [u8] {
        let (head, rest) = tuple.split_at(7);
        assert_eq!(head[..3], [0, 1, b't'], "one column, as text");
        let length = u32::from_be_bytes(head[3..].try_into().unwrap()) as usize;
        let (key, rest) = rest.split_at(length);
        let key = String::from_utf8(key.to_vec()).unwrap();
        if last == Last::Deleted {
            self.deletes.insert(key.clone());
        }
        self.keys.insert(key, last);
        rest
    }
}
