//! Counters and histograms: what only grows. Touched once a page or a request, never once a row.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Metric, Registry},
};

use super::names::{self, Name};

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Applied,
    Superseded,
    DeadLetter,
}

impl Ending {
    pub(super) const ALL: [Self; 3] = [Self::Applied, Self::Superseded, Self::DeadLetter];

    fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Superseded => "superseded",
            Self::DeadLetter => "dead_letter",
        }
    }
}

/// What became of a bulk request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every operation has ended.
    Taken,
    /// Some are to be sent again.
    Partly,
    /// No answer, or a refusal of the whole.
    Failed,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Taken, Self::Partly, Self::Failed];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Partly => "partly",
            Self::Failed => "failed",
        }
    }
}

/// A bulk request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Operations in it.
    pub operations: usize,
    /// Bytes of its body.
    pub bytes: usize,
    /// Until the answer or the failure.
    pub took: Duration,
    /// What became of it.
    pub outcome: Outcome,
    /// How much of their size and number requests have from here on, up to 1.
    pub capacity: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

/// The counters and histograms of a process, in the registry that is exposed.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) registry: Registry,
    pub(super) failed_attempts: Counter,
    pub(super) snapshot_rows: Counter,
    pub(super) reread_rows: Counter,
    request_seconds: Histogram,
    pub(super) request_bytes: Counter,
    request_operations: Counter,
    pub(super) retries: Counter,
    pub(super) acknowledged_seconds: Histogram,
    pub(super) searchable_seconds: Histogram,
    operations: Family<OfResult, Counter>,
    requests: Family<OfOutcome, Counter>,
    left_out: Family<OfKind, Counter>,
}

/// From a millisecond to what a restart or an outage takes.
const LATENCY_BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

impl Metrics {
    pub(super) fn new() -> Self {
        let histogram = || Histogram::new(LATENCY_BUCKETS);
        let mut metrics = Self {
            registry: Registry::default(),
            failed_attempts: Counter::default(),
            snapshot_rows: Counter::default(),
            reread_rows: Counter::default(),
            request_seconds: histogram(),
            request_bytes: Counter::default(),
            request_operations: Counter::default(),
            retries: Counter::default(),
            acknowledged_seconds: histogram(),
            searchable_seconds: histogram(),
            operations: Family::default(),
            requests: Family::default(),
            left_out: Family::default(),
        };
        metrics.register();
        // So that a rate over them is 0 and not missing before the first.
        for ending in Ending::ALL {
            metrics.operations(ending);
        }
        for outcome in Outcome::ALL {
            metrics.requests(outcome);
        }
        metrics.left_out([0; 3]);
        metrics
    }

    fn register(&mut self) {
        register(
            &mut self.registry,
            names::FAILED_ATTEMPTS,
            &self.failed_attempts,
        );
        register(
            &mut self.registry,
            names::SNAPSHOT_ROWS,
            &self.snapshot_rows,
        );
        register(&mut self.registry, names::REREAD_ROWS, &self.reread_rows);
        register(
            &mut self.registry,
            names::REQUEST_SECONDS,
            &self.request_seconds,
        );
        register(
            &mut self.registry,
            names::REQUEST_BYTES,
            &self.request_bytes,
        );
        register(
            &mut self.registry,
            names::REQUEST_OPERATIONS,
            &self.request_operations,
        );
        register(&mut self.registry, names::RETRIES, &self.retries);
        register(
            &mut self.registry,
            names::ACKNOWLEDGED_SECONDS,
            &self.acknowledged_seconds,
        );
        register(
            &mut self.registry,
            names::SEARCHABLE_SECONDS,
            &self.searchable_seconds,
        );
        register(&mut self.registry, names::OPERATIONS, &self.operations);
        register(&mut self.registry, names::REQUESTS, &self.requests);
        register(&mut self.registry, names::LEFT_OUT, &self.left_out);
    }

    pub(super) fn operations(&self, ending: Ending) -> Counter {
        let result = ending.name();
        self.operations.get_or_create_owned(&OfResult { result })
    }

    pub(super) fn sent(&self, sent: &Sent) {
        self.requests(sent.outcome).inc();
        self.request_seconds.observe(sent.took.as_secs_f64());
        self.request_bytes.inc_by(sent.bytes as u64);
        self.request_operations.inc_by(sent.operations as u64);
    }

    fn requests(&self, outcome: Outcome) -> Counter {
        let outcome = outcome.name();
        self.requests.get_or_create_owned(&OfOutcome { outcome })
    }

    /// Vectors, points and floats.
    pub(super) fn left_out(&self, counts: [u64; 3]) {
        for (kind, count) in ["vector", "point", "float"].into_iter().zip(counts) {
            self.left_out.get_or_create(&OfKind { kind }).inc_by(count);
        }
    }
}

pub(super) fn register(registry: &mut Registry, name: Name, metric: &(impl Metric + Clone)) {
    registry.register(name.registered(), name.help, metric.clone());
}
