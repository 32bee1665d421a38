//! Sends a batch until every operation in it is resolved: applied, superseded by a newer version,
//! or set aside as a dead letter that is stored. Only what failed is sent again, in its place, and in
//! requests of the size that Elasticsearch takes at present.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Aside, Fate, LeftOut, OnRefusal, Retry, Ticket,
    capacity::Capacity,
    gate::{Gate, Pass},
    lanes::{Batch, Write},
    request::{Means, Refusal, Request, Round, Trouble},
    retry::jittered,
};
use crate::{
    change::{Action, Key, Version},
    document::Encoded,
    elasticsearch::{self, Client, DeadLetters, Verdict, key_problem},
    observe::{Meter, Outcome, Retrying, Sent},
    stop::Stop,
};

/// What a writer needs to know.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// The concrete index; never the alias.
    pub index: String,
    /// Documents in a request, at most.
    pub documents_max: usize,
    /// Requests under way, at most.
    pub requests_max: usize,
    /// When to try again.
    pub retry: Retry,
    /// What happens to a refused document.
    pub on_refusal: OnRefusal,
    /// The run's number, for dead letters.
    pub run: u64,
    /// Where it is told what happens.
    pub meter: Arc<Meter>,
}

/// Wire bytes of rows in a request, at most: JSON takes about twice as much, and 2 to 4 MB a
/// request are best.
const WIRE_BYTES_MAX: usize = 2 << 20;

/// `error.type` of a write into an index that is not there.
const NO_INDEX: &str = "index_not_found_exception";

/// Delivers batches; shared by all lanes.
#[derive(Debug)]
pub struct Writer {
    client: Client,
    options: WriterOptions,
    gate: Gate,
    /// The highest version that the source can have given; see [`Verdict::Foreign`].
    bound: AtomicU64,
    aside: Aside,
    left_out: LeftOut,
}

impl Writer {
    /// A writer into one index. `letters` are the keys that have a dead letter now.
    #[must_use]
    pub fn new(
        client: Client,
        dead_letters: DeadLetters,
        letters: HashMap<Key, Version>,
        options: WriterOptions,
    ) -> Self {
        Self {
            client,
            gate: Gate::new(Capacity::new(options.documents_max, options.requests_max)),
            bound: AtomicU64::new(0),
            aside: Aside::new(dead_letters, letters, &options),
            left_out: LeftOut::default(),
            options,
        }
    }

    /// Whether a batch should be sent before anything is added to it.
    #[must_use]
    pub fn is_full(&self, batch: &Batch) -> bool {
        batch.is_full(self.gate.capacity().documents(), WIRE_BYTES_MAX)
    }

    /// Documents in a request, at most.
    #[must_use]
    pub fn documents_max(&self) -> usize {
        self.options.documents_max
    }

    /// Where it is told what happens.
    #[must_use]
    pub fn meter(&self) -> &Arc<Meter> {
        &self.options.meter
    }

    /// What was left out of documents.
    #[must_use]
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// Raises the bound above which a stored version cannot be of this source.
    pub fn raise_bound(&self, bound: Version) {
        self.bound.fetch_max(bound.0, Ordering::Relaxed);
    }

    /// What happens to refused documents, and what has happened.
    #[must_use]
    pub fn aside(&self) -> &Aside {
        &self.aside
    }

    /// Delivers a batch; tells `resolve` what has become of operations, a ticket for each.
    ///
    /// # Errors
    /// A refused document when refusals stop, or more of them than may be; a foreign version, or
    /// retries used up. What is not resolved then will be sent again by the next run.
    pub async fn deliver(
        &self,
        batch: Batch,
        resolve: impl Fn(Fate, Vec<Ticket>),
    ) -> Result<(), Stop> {
        let (writes, superseded) = batch.into_writes();
        let (request, encoded) = self.encode(writes);
        self.settle(encoded, &resolve).await?;
        let mut requests = vec![request];
        let mut attempt = 0;
        let mut retrying = None;
        while let Some(request) = requests.pop() {
            if request.writes.is_empty() {
                continue;
            }
            let mut round = self.send(request, &mut requests).await?;
            failpoint!("bulk-judged");
            let trouble = round.trouble.take();
            requests.extend(round.left.take());
            if round.is_progress() {
                (attempt, retrying) = (0, None);
            }
            self.settle(round, &resolve).await?;
            match trouble {
                None => {}
                Some(Trouble {
                    means: Means::Cut, ..
                }) => attempt = 0,
                Some(Trouble {
                    cause,
                    means: Means::Wait(at_least),
                }) => {
                    attempt += 1;
                    // The one before goes first: a lane counts once.
                    drop(retrying.take());
                    retrying = Some(self.retrying(attempt, &cause));
                    self.pause(attempt, &cause, at_least).await?;
                }
            }
        }
        drop(retrying);
        self.options.meter.ended(0, superseded.len(), 0);
        let superseded = superseded.iter().map(|write| write.ticket).collect();
        resolve(Fate::Delivered, superseded);
        Ok(())
    }

    /// Answers for what has come to its end.
    async fn settle(&self, round: Round, resolve: &impl Fn(Fate, Vec<Ticket>)) -> Result<(), Stop> {
        self.aside.clear(round.mended).await;
        let applied = round.resolved.len() - round.superseded;
        self.options.meter.ended(applied, round.superseded, 0);
        resolve(Fate::Delivered, round.resolved);
        failpoint!("bulk-resolved");
        self.aside.taken(round.documents);
        resolve(Fate::Refused, self.aside.set_aside(round.refused).await?);
        Ok(())
    }

    /// Encodes the documents; what no request can carry has come to its end here.
    fn encode(&self, writes: Vec<Write>) -> (Request, Round) {
        let (mut request, mut round) = (Request::default(), Round::default());
        let mut left_out = Encoded::default();
        for write in writes {
            let operation = &write.operation;
            let problem = match (&operation.action, key_problem(&operation.key)) {
                // No document can have the key, so there is none to remove.
                (Action::Delete, Some(_)) => {
                    self.note_delivered(write, &mut round);
                    continue;
                }
                (Action::Index(_), Some(problem)) => Some(("key", problem.to_owned())),
                (Action::Delete, None) => {
                    request.bulk.push_delete(&operation.key, operation.version);
                    None
                }
                (Action::Index(row), None) => {
                    let encode = |out: &mut Vec<u8>| write.layout.encode(row, out);
                    let pushed = request
                        .bulk
                        .push_index(&operation.key, operation.version, encode);
                    match pushed {
                        Ok(encoded) => {
                            self.left_out.count(&operation.key, encoded);
                            left_out.add(encoded);
                            None
                        }
                        Err(error) => Some(("encoding", error.to_string())),
                    }
                }
            };
            match problem {
                None => request.writes.push(write),
                Some((kind, reason)) => round.refused.push(Refusal {
                    write,
                    document: None,
                    kind: kind.to_owned(),
                    reason,
                }),
            }
        }
        self.options.meter.left_out(
            left_out.vectors_dropped.into(),
            left_out.points_dropped.into(),
            left_out.floats_dropped.into(),
        );
        (request, round)
    }

    /// Sends as much of a request as may be sent at once; what is cut off goes to `rest`.
    async fn send(&self, mut request: Request, rest: &mut Vec<Request>) -> Result<Round, Stop> {
        let pass = self.gate.pass().await;
        let (documents, body_bytes) = {
            let capacity = self.gate.capacity();
            (capacity.documents(), capacity.body_bytes())
        };
        rest.extend(request.cut(documents, body_bytes));
        let bound = Version(self.bound.load(Ordering::Relaxed));
        let (operations, bytes) = (request.writes.len(), request.bulk.bytes_len());
        let began = Instant::now();
        let sent = self.client.bulk(&self.options.index, &request.bulk, bound);
        let answer = sent.await;
        let took = began.elapsed();
        let round = self.judge(request, answer, pass);
        let outcome = match &round {
            Ok(round) if round.left.is_none() => Outcome::Taken,
            Ok(round) if round.is_progress() => Outcome::Partly,
            _ => Outcome::Failed,
        };
        self.options.meter.sent(Sent {
            operations,
            bytes,
            took,
            outcome,
            capacity: self.gate.capacity().ratio(),
        });
        round
    }

    /// What an answer means for the request's operations.
    fn judge(
        &self,
        request: Request,
        answer: Result<Vec<Verdict>, elasticsearch::Error>,
        pass: Pass<'_>,
    ) -> Result<Round, Stop> {
        match answer {
            Ok(verdicts) => self.sort(request, verdicts, pass),
            Err(error) if error.is_too_large(request.bulk.source_bytes()) => {
                let reason = error.to_string();
                Ok(self.too_large(request, "content_too_large", reason))
            }
            Err(error) if error.is(NO_INDEX) => Err(self.index_gone()),
            Err(error) => {
                if error.is_overload() {
                    pass.overloaded();
                }
                let means = Means::Wait(error.retry_after());
                Ok(Round {
                    left: Some(request),
                    trouble: Some(Trouble {
                        cause: error.to_string(),
                        means,
                    }),
                    ..Round::default()
                })
            }
        }
    }

    /// A request that Elasticsearch cannot take even when it has nothing else to do: remembered, so
    /// that others do not begin too large again, and cut. A single document is refused.
    fn too_large(&self, request: Request, kind: &str, cause: String) -> Round {
        self.gate.capacity().too_large(request.bulk.bytes_len());
        if request.writes.len() == 1 {
            return Round {
                refused: request.into_refusals(kind, &cause),
                ..Round::default()
            };
        }
        tracing::info!(
            documents = request.writes.len(),
            body_bytes = request.bulk.bytes_len(),
            cause,
            "a request is too large for Elasticsearch, sending it in parts"
        );
        Round {
            left: Some(request),
            trouble: Some(Trouble {
                cause,
                means: Means::Cut,
            }),
            ..Round::default()
        }
    }

    /// Sorts a request's operations by what became of them.
    fn sort(
        &self,
        request: Request,
        verdicts: Vec<Verdict>,
        pass: Pass<'_>,
    ) -> Result<Round, Stop> {
        let Request { bulk, writes } = request;
        let mut round = Round::default();
        let mut left = Left::default();
        for (place, (write, verdict)) in writes.into_iter().zip(verdicts).enumerate() {
            match verdict {
                Verdict::Applied => self.note_delivered(write, &mut round),
                Verdict::Superseded => {
                    round.superseded += 1;
                    self.note_delivered(write, &mut round);
                }
                Verdict::Refused { kind, reason } => round.refused.push(Refusal {
                    document: bulk.source(place).map(<[u8]>::to_vec),
                    write,
                    kind,
                    reason,
                }),
                Verdict::Foreign { stored } => {
                    return Err(Stop::ForeignVersion {
                        key: write.operation.key.to_string(),
                        index: self.options.index.clone(),
                        stored,
                    });
                }
                Verdict::System { kind, .. } if kind == NO_INDEX => return Err(self.index_gone()),
                Verdict::System { kind, reason } => left.add(place, write, (kind, reason)),
                Verdict::Overloaded { kind, reason } => {
                    left.overload = true;
                    left.add(place, write, (kind, reason));
                }
                Verdict::TooLarge { kind, reason } => {
                    left.too_large += 1;
                    left.add(place, write, (kind, reason));
                }
            }
        }
        let Some((kind, reason)) = left.cause else {
            pass.succeeded();
            return Ok(round);
        };
        let all_too_large = left.too_large == left.writes.len();
        let request = Request {
            bulk: bulk.select(&left.places),
            writes: left.writes,
        };
        if all_too_large {
            let cut = self.too_large(request, &kind, reason);
            round.refused.extend(cut.refused);
            return Ok(Round {
                left: cut.left,
                trouble: cut.trouble,
                ..round
            });
        }
        if left.overload {
            pass.overloaded();
        }
        round.left = Some(request);
        round.trouble = Some(Trouble {
            cause: format!("{kind}: {reason}"),
            means: Means::Wait(None),
        });
        Ok(round)
    }

    fn note_delivered(&self, write: Write, round: &mut Round) {
        let operation = write.operation;
        if self.aside.holds_older(&operation) {
            round.mended.push((operation.key, operation.version));
        }
        round.documents += usize::from(matches!(operation.action, Action::Index(_)));
        round.resolved.push(write.ticket);
    }

    /// The template's guard keeps a write from making it anew, empty; nobody else will bring it back.
    fn index_gone(&self) -> Stop {
        Stop::IndexReplaced {
            index: self.options.index.clone(),
            state: "gone".to_owned(),
        }
    }

    fn retrying(&self, attempt: u32, trouble: &str) -> Retrying {
        let at_most = self.options.retry.waits_longest(attempt);
        self.options.meter.retrying(at_most, trouble)
    }

    /// Waits before the next attempt, or gives up.
    async fn pause(
        &self,
        attempt: u32,
        trouble: &str,
        at_least: Option<Duration>,
    ) -> Result<(), Stop> {
        let Some(backoff) = self.options.retry.wait(attempt) else {
            return Err(Stop::RetriesExhausted {
                attempts: attempt,
                cause: trouble.to_owned(),
            });
        };
        let wait = jittered(backoff, fastrand::f64(), at_least);
        let (documents, requests) = {
            let capacity = self.gate.capacity();
            (capacity.documents(), capacity.requests())
        };
        tracing::warn!(
            index = self.options.index,
            attempt,
            wait_seconds = wait.as_secs_f64(),
            documents_max = documents,
            requests_max = requests,
            trouble,
            "Elasticsearch did not take a request, sending again what failed"
        );
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Operations of a request that have to be sent again.
#[derive(Default)]
struct Left {
    places: Vec<usize>,
    writes: Vec<Write>,
    /// What Elasticsearch said of the first: `error.type` and reason.
    cause: Option<(String, String)>,
    overload: bool,
    /// How many of them were too large, whatever the load.
    too_large: usize,
}

impl Left {
    fn add(&mut self, place: usize, write: Write, cause: (String, String)) {
        self.places.push(place);
        self.writes.push(write);
        self.cause.get_or_insert(cause);
    }
}
