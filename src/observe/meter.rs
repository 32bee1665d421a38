//! What a run pushes of itself while it works, and what it looks like from outside at any moment.
//!
//! One for a process, shared. Facts come from the rooms that know them, as numbers and texts of this
//! room's own, since it uses no other. What is pushed often is an atomic; a lock is taken once a page,
//! a request or a second.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    commits::{Commits, SPACING},
    health,
    metrics::{Ending, Metrics, Sent},
    status::{Lag, Operations, Phase, Positions, SlotState, Status, Subject, Throughput, Trouble},
    traces::{Span, Traces},
};

/// What a run has pushed of itself so far: what status, metrics and health are read from.
#[derive(Debug)]
pub struct Meter {
    lag_target: Duration,
    started: Instant,
    started_at: Timestamp,
    pub(super) metrics: Metrics,
    traces: Traces,
    facts: Mutex<Facts>,
    commits: Mutex<Commits>,
    /// Where the last commit or keepalive that was received ends; 0 for none, as in what follows.
    received: AtomicU64,
    /// When the last commit was made that is kept in `commits`.
    kept: AtomicI64,
    reached: AtomicU64,
    stored: AtomicU64,
    confirmed: AtomicU64,
    dead_letters: AtomicU64,
    retrying: AtomicU64,
    retrying_at_most: AtomicU64,
    /// Milliseconds from the start to the last sign of progress.
    progress: AtomicU64,
}

#[derive(Debug)]
struct Facts {
    subject: Subject,
    run: Option<u64>,
    phase: Phase,
    phase_since: Timestamp,
    caught_up: bool,
    rows_estimated: Option<u64>,
    wal_end: Option<u64>,
    slot: Option<SlotState>,
    index_trouble: Option<String>,
    last_error: Option<Trouble>,
    /// Operations in the lanes of the present delivery.
    open: Option<watch::Receiver<u64>>,
    capacity: f64,
    /// Operations and bytes, as they were then.
    marks: [(Instant, u64, u64); 2],
}

impl Facts {
    fn span(&self, failed: bool) -> Span {
        let took = Timestamp::now().duration_since(self.phase_since);
        Span::of_phase(self.phase, took, failed, &self.subject.index)
    }
}

impl Drop for Meter {
    /// The last phase ends with the program.
    fn drop(&mut self) {
        self.traces.tell(|| self.facts().span(false));
    }
}

impl Meter {
    /// Nothing has happened yet. Readiness asks for a lag within `lag_target`.
    #[must_use]
    pub fn new(subject: Subject, lag_target: Duration, traces: Traces) -> Arc<Self> {
        let (started, started_at) = (Instant::now(), Timestamp::now());
        let facts = Facts {
            subject,
            run: None,
            phase: Phase::Starting,
            phase_since: started_at,
            caught_up: false,
            rows_estimated: None,
            wal_end: None,
            slot: None,
            index_trouble: None,
            last_error: None,
            open: None,
            capacity: 1.0,
            marks: [(started, 0, 0); 2],
        };
        Arc::new(Self {
            lag_target,
            started,
            started_at,
            metrics: Metrics::new(),
            traces,
            facts: Mutex::new(facts),
            commits: Mutex::default(),
            received: AtomicU64::new(0),
            kept: AtomicI64::new(0),
            reached: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            retrying: AtomicU64::new(0),
            retrying_at_most: AtomicU64::new(0),
            progress: AtomicU64::new(0),
        })
    }

    /// It fills this index from here on, from this slot if it has one.
    pub fn serves(&self, index: &str, slot: &str) {
        let subject = &mut self.facts().subject;
        index.clone_into(&mut subject.index);
        if let Some(known) = &mut subject.slot {
            slot.clone_into(known);
        }
    }

    /// It does something else from here on.
    pub fn phase(&self, phase: Phase) {
        let mut facts = self.facts();
        if facts.phase != phase {
            self.traces.tell(|| facts.span(phase == Phase::Waiting));
            (facts.phase, facts.phase_since) = (phase, Timestamp::now());
        }
        if matches!(phase, Phase::Starting | Phase::Waiting) {
            // The lanes of the attempt before are gone.
            (facts.open, facts.caught_up) = (None, false);
        }
        drop(facts);
        if phase == Phase::Standby {
            // From here on another instance knows how far it is.
            *self.commits() = Commits::default();
            self.reached.store(0, Relaxed);
        }
        self.progressed();
    }

    /// The run has a record, of this number.
    pub fn run(&self, number: u64) {
        self.facts().run = Some(number);
    }

    /// Something went wrong that is handled.
    pub fn trouble(&self, text: &str) {
        let (at, text) = (Timestamp::now(), text.to_owned());
        self.facts().last_error = Some(Trouble { at, text });
    }

    /// An attempt ended with a trouble that heals; the next comes in a while.
    pub fn attempt_failed(&self, trouble: &str) {
        self.metrics.failed_attempts.inc();
        self.trouble(trouble);
        self.phase(Phase::Waiting);
    }

    /// The snapshot begins; the table has about so many rows.
    pub fn rows_estimated(&self, rows: Option<u64>) {
        self.facts().rows_estimated = rows;
    }

    /// The snapshot has read so many more rows.
    pub fn rows_read(&self, rows: u64) {
        self.metrics.snapshot_rows.inc_by(rows);
        self.progressed();
    }

    /// So many rows of changes were read again by key.
    pub fn rows_read_again(&self, rows: u64) {
        self.metrics.reread_rows.inc_by(rows);
        self.progressed();
    }

    /// Lanes start; `open` is how many operations are in them.
    pub fn lanes_started(&self, open: watch::Receiver<u64>) {
        self.facts().open = Some(open);
    }

    /// Operations were handed to the lanes.
    pub fn handed_over(&self) {
        self.progressed();
    }

    /// A bulk request has ended.
    pub fn sent(&self, sent: Sent) {
        self.metrics.sent(&sent);
        let mut facts = self.facts();
        facts.capacity = sent.capacity;
        self.traces
            .tell(|| Span::of_request(sent, &facts.subject.index));
        drop(facts);
        self.progressed();
    }

    /// So many operations have ended, each way.
    pub fn ended(&self, applied: usize, superseded: usize, dead_letters: usize) {
        let ended = [
            (Ending::Applied, applied),
            (Ending::Superseded, superseded),
            (Ending::DeadLetter, dead_letters),
        ];
        for (ending, count) in ended.into_iter().filter(|(_, count)| *count > 0) {
            self.metrics.operations(ending).inc_by(count as u64);
        }
    }

    /// So many vectors, points and floats are not in the documents of a request.
    pub fn left_out(&self, vectors: u64, points: u64, floats: u64) {
        if vectors + points + floats > 0 {
            self.metrics.left_out([vectors, points, floats]);
        }
    }

    /// A request is sent again after a wait, the longest that there is if `at_most`. Until the guard is
    /// dropped its lane counts as one that does not get on.
    #[must_use]
    pub fn retrying(self: &Arc<Self>, at_most: bool, trouble: &str) -> Retrying {
        self.metrics.retries.inc();
        self.trouble(trouble);
        self.retrying.fetch_add(1, Relaxed);
        self.retrying_at_most.fetch_add(at_most.into(), Relaxed);
        self.progressed();
        Retrying {
            meter: self.clone(),
            at_most,
        }
    }

    /// So many keys have a dead letter now.
    pub fn dead_letters(&self, keys: usize) {
        self.dead_letters.store(keys as u64, Relaxed);
    }

    /// A stream begins at what was stored; `caught_up` if the alias points to the index already.
    pub fn stream_begins(&self, stored: Option<u64>, caught_up: bool) {
        self.facts().caught_up = caught_up;
        self.commits().begin();
        self.kept.store(0, Relaxed);
        self.received.store(0, Relaxed);
        self.reached.store(stored.unwrap_or(0), Relaxed);
        self.stored.store(stored.unwrap_or(0), Relaxed);
        self.phase(Phase::Stream);
    }

    /// A commit was received that ends at the LSN `end` and was made at `at`, in microseconds since
    /// 1970 by the clock of PostgreSQL. Costs two atomics, and a lock for one of a crowd.
    pub fn commit_received(&self, end: u64, at: i64) {
        let previous = self.received.swap(end, Relaxed);
        let kept = self.kept.load(Relaxed);
        // A clock that was set back counts too.
        if at.abs_diff(kept) >= SPACING.unsigned_abs() {
            self.kept.store(at, Relaxed);
            self.commits().keep(previous, end, at);
        }
    }

    /// Nothing up to the LSN `end` concerns the table, but for what was received.
    pub fn idle_until(&self, end: u64) {
        self.received.fetch_max(end, Relaxed);
    }

    /// Elasticsearch has everything up to this LSN.
    pub fn reached(&self, lsn: u64) {
        let now = now();
        self.reached.fetch_max(lsn, Relaxed);
        let seconds = &self.metrics.acknowledged_seconds;
        self.commits().reach(lsn, |at| {
            let took = elapsed(at, now);
            seconds.observe(took);
            self.traces
                .tell(|| Span::of_commit("commit acknowledged", took));
        });
    }

    /// A search found the document of a commit that was made at `at`.
    pub fn found(&self, at: i64) {
        let took = elapsed(at, now());
        self.metrics.searchable_seconds.observe(took);
        self.traces
            .tell(|| Span::of_commit("commit searchable", took));
    }

    /// Everything up to this LSN is stored as resolved.
    pub fn stored(&self, lsn: u64) {
        self.stored.fetch_max(lsn, Relaxed);
        self.progressed();
    }

    /// PostgreSQL is told that it may forget everything up to this LSN.
    pub fn confirmed(&self, lsn: u64) {
        self.confirmed.fetch_max(lsn, Relaxed);
    }

    /// The alias points to the index.
    pub fn caught_up(&self) {
        self.facts().caught_up = true;
    }

    /// PostgreSQL was looked at: where its WAL ends, and the slot if it is there.
    pub fn postgres_seen(&self, wal_end: u64, slot: Option<SlotState>) {
        let mut facts = self.facts();
        (facts.wal_end, facts.slot) = (Some(wal_end), slot);
        drop(facts);
        self.commits().wal_ends(wal_end, now());
    }

    /// The index was looked at, or why it could not be.
    pub fn index_seen(&self, trouble: Option<&str>) {
        if let Some(trouble) = trouble {
            self.trouble(trouble);
        }
        self.facts().index_trouble = trouble.map(str::to_owned);
    }

    /// Notes what has been done so far, for the throughput. To be called every few seconds.
    pub(super) fn mark(&self) {
        let mark = self.done();
        let mut facts = self.facts();
        facts.marks = [facts.marks[1], mark];
    }

    /// Whether it is stuck for good: see [`health::is_wedged`].
    pub(super) fn is_wedged(&self) -> bool {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let idle = Duration::from_millis(now.saturating_sub(self.progress.load(Relaxed)));
        health::is_wedged(open(&self.facts()), self.retrying.load(Relaxed), idle)
    }

    /// How it is now.
    #[must_use]
    pub fn status(&self) -> Status {
        let lag = self.lag();
        let (done_at, operations_done, bytes_done) = self.done();
        let facts = self.facts();
        let (since, operations, bytes) = facts.marks[0];
        let seconds = (done_at - since).as_secs_f64().max(0.001);
        let not_ready = health::reasons(&health::Facts {
            phase: facts.phase,
            caught_up: facts.caught_up,
            lag: lag.seconds.map(Duration::from_secs_f64),
            lag_target: self.lag_target,
            retrying_at_most: self.retrying_at_most.load(Relaxed),
            index_trouble: facts.index_trouble.clone(),
        });
        let ended = |ending| self.metrics.operations(ending).get();
        #[expect(clippy::cast_precision_loss, reason = "rates, to be read by people")]
        let rate = |now: u64, before: u64| (now - before) as f64 / seconds;
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            subject: facts.subject.clone(),
            run: facts.run,
            started_at: self.started_at,
            at: Timestamp::now(),
            phase: facts.phase,
            phase_since: facts.phase_since,
            ready: not_ready.is_empty(),
            not_ready,
            snapshot_rows: self.metrics.snapshot_rows.get(),
            snapshot_rows_estimated: facts.rows_estimated,
            lag: Lag {
                bytes: self.lag_bytes(&facts),
                ..lag
            },
            positions: self.positions(&facts),
            slot: facts.slot.clone(),
            operations: Operations {
                open: open(&facts),
                applied: ended(Ending::Applied),
                superseded: ended(Ending::Superseded),
                dead_letters: ended(Ending::DeadLetter),
            },
            throughput: Throughput {
                operations: rate(operations_done, operations),
                bytes: rate(bytes_done, bytes),
            },
            capacity: facts.capacity,
            lanes_retrying: self.retrying.load(Relaxed),
            retries: self.metrics.retries.get(),
            dead_letters: self.dead_letters.load(Relaxed),
            last_error: facts.last_error.clone(),
        }
    }

    /// The LSNs of [`Positions`], by name; those that are known.
    pub(super) fn lsns(&self) -> Vec<(&'static str, u64)> {
        let wal_end = self.facts().wal_end;
        let known = |lsn: &AtomicU64| Some(lsn.load(Relaxed)).filter(|lsn| *lsn > 0);
        let all = [
            ("wal_end", wal_end),
            ("received", known(&self.received)),
            ("acknowledged", known(&self.reached)),
            ("stored", known(&self.stored)),
            ("confirmed", known(&self.confirmed)),
        ];
        all.into_iter()
            .filter_map(|(name, lsn)| Some((name, lsn?)))
            .collect()
    }

    fn positions(&self, facts: &Facts) -> Positions {
        let told = |lsn: &AtomicU64| Some(lsn.load(Relaxed)).filter(|lsn| *lsn > 0).map(text);
        Positions {
            wal_end: facts.wal_end.map(text),
            received: told(&self.received),
            acknowledged: told(&self.reached),
            stored: told(&self.stored),
            confirmed: told(&self.confirmed),
        }
    }

    fn lag(&self) -> Lag {
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a lag")]
        let seconds = |micros: i64| micros as f64 / 1e6;
        let lag = self.commits().lag(self.received.load(Relaxed), now());
        Lag {
            bytes: None,
            seconds: lag.map(seconds),
            target_seconds: self.lag_target.as_secs_f64(),
        }
    }

    fn lag_bytes(&self, facts: &Facts) -> Option<u64> {
        let reached = self.reached.load(Relaxed);
        // What has come since the WAL's end was looked at.
        let end = facts.wal_end?.max(self.received.load(Relaxed));
        let behind = end.saturating_sub(reached);
        (reached > 0).then_some(behind)
    }

    /// Operations that have ended, and bytes of requests.
    fn done(&self) -> (Instant, u64, u64) {
        let ended = Ending::ALL.map(|ending| self.metrics.operations(ending).get());
        let bytes = self.metrics.request_bytes.get();
        (Instant::now(), ended.iter().sum(), bytes)
    }

    fn progressed(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress.store(now, Relaxed);
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commits(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane that does not get on; see [`Meter::retrying`].
#[derive(Debug)]
pub struct Retrying {
    meter: Arc<Meter>,
    at_most: bool,
}

impl Drop for Retrying {
    fn drop(&mut self) {
        self.meter.retrying.fetch_sub(1, Relaxed);
        let at_most = self.at_most.into();
        self.meter.retrying_at_most.fetch_sub(at_most, Relaxed);
    }
}

fn open(facts: &Facts) -> u64 {
    facts.open.as_ref().map_or(0, |open| *open.borrow())
}

/// Microseconds since 1970.
fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

/// Seconds from `at`; a clock that is behind PostgreSQL's gives 0.
fn elapsed(at: i64, now: i64) -> f64 {
    Duration::from_micros(now.saturating_sub(at).max(0).unsigned_abs()).as_secs_f64()
}

/// As PostgreSQL writes an LSN.
fn text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}
