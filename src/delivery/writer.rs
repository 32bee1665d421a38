//! Sends a batch until every operation in it is resolved: applied, superseded by a newer version,
//! or set aside as a dead letter that is stored. Only what failed is sent again, in its place.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use jiff::Timestamp;

use super::{
    Retry, Ticket,
    lanes::{Batch, Write},
};
use crate::{
    change::{Action, Key, Operation, Version},
    elasticsearch::{
        Bulk, Client, DeadLetter, DeadLetters, RecordsError, RefusedAction, Verdict, key_problem,
    },
    stop::Stop,
};

/// What a writer needs to know.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// The concrete index; never the alias.
    pub index: String,
    /// Documents in a request, at most.
    pub documents_max: usize,
    /// When to try again.
    pub retry: Retry,
    /// What happens to a refused document.
    pub on_refusal: OnRefusal,
    /// The run's number, for dead letters.
    pub run: u64,
}

/// What happens to a document that Elasticsearch refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRefusal {
    /// It is stored as a dead letter and counted.
    SetAside,
    /// The program stops.
    Stop,
}

/// What has been done so far, for run metadata and progress.
#[derive(Debug, Default)]
pub struct Counters {
    /// Operations that Elasticsearch has applied, or had in a newer version already.
    pub delivered: AtomicU64,
    /// Documents set aside.
    pub dead_letters: AtomicU64,
    /// Vectors left out of documents because Elasticsearch would have refused them.
    pub vectors_dropped: AtomicU64,
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
    dead_letters: DeadLetters,
    options: WriterOptions,
    counters: Arc<Counters>,
    /// The highest version that the source can have given; see [`Verdict::Foreign`].
    bound: AtomicU64,
    dead_keys: DeadKeys,
}

impl Writer {
    /// A writer into one index. `dead_keys` are those that have a dead letter now.
    #[must_use]
    pub fn new(
        client: Client,
        dead_letters: DeadLetters,
        dead_keys: HashMap<Key, Version>,
        options: WriterOptions,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            client,
            dead_letters,
            options,
            counters,
            bound: AtomicU64::new(0),
            dead_keys: DeadKeys::new(dead_keys),
        }
    }

    /// Whether a batch should be sent before anything is added to it.
    #[must_use]
    pub fn is_full(&self, batch: &Batch) -> bool {
        batch.is_full(self.options.documents_max, WIRE_BYTES_MAX)
    }

    /// Raises the bound above which a stored version cannot be of this source.
    pub fn raise_bound(&self, bound: Version) {
        self.bound.fetch_max(bound.0, Ordering::Relaxed);
    }

    /// How many dead letters there are of this version or a newer one, and the first of them: what a
    /// one-shot run was refused, also by an earlier process of the same run.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn refused_at(
        &self,
        version: Option<Version>,
    ) -> Result<Option<(u64, DeadLetter)>, RecordsError> {
        let mut pages = self.dead_letters.letters().await?;
        let (mut count, mut first) = (0, None);
        while let Some(page) = pages.next().await? {
            for letter in page
                .into_iter()
                .filter(|letter| Some(letter.version) >= version)
            {
                count += 1;
                first.get_or_insert(letter);
            }
        }
        Ok(first.map(|first| (count, first)))
    }

    /// Delivers a batch; hands tickets to `resolve` as operations get resolved, one an operation.
    ///
    /// # Errors
    /// A refused document when refusals stop, a foreign version, or retries used up. What is not
    /// resolved then will be sent again by the next run.
    pub async fn deliver(&self, batch: Batch, resolve: impl Fn(Vec<Ticket>)) -> Result<(), Stop> {
        let (writes, superseded) = batch.into_writes();
        let (request, refused) = self.encode(writes);
        resolve(self.set_aside(refused).await?);
        let mut requests = vec![request];
        let mut attempt = 0;
        while let Some(request) = requests.pop() {
            if request.writes.is_empty() {
                continue;
            }
            let round = self.send(request).await?;
            failpoint!("bulk-judged");
            let progress =
                !round.resolved.is_empty() || !round.refused.is_empty() || round.trouble.is_none();
            self.clear(round.mended).await;
            resolve(round.resolved);
            failpoint!("bulk-resolved");
            resolve(self.set_aside(round.refused).await?);
            requests.extend(round.left);
            attempt = if progress { 0 } else { attempt + 1 };
            if let Some(trouble) = round.trouble {
                self.pause(attempt.max(1), &trouble).await?;
            }
        }
        resolve(superseded.iter().map(|write| write.ticket).collect());
        Ok(())
    }

    /// Encodes the documents; those that no request can carry are refused here.
    fn encode(&self, writes: Vec<Write>) -> (Request, Vec<Refusal>) {
        let mut request = Request {
            bulk: Bulk::new(),
            writes: Vec::with_capacity(writes.len()),
        };
        let mut refused = Vec::new();
        for write in writes {
            let operation = &write.operation;
            let problem =
                key_problem(&operation.key)
                    .map(|problem| ("key", problem.to_owned()))
                    .or_else(|| match &operation.action {
                        Action::Delete => {
                            request.bulk.push_delete(&operation.key, operation.version);
                            None
                        }
                        Action::Index(row) => match request.bulk.push_index(
                            &operation.key,
                            operation.version,
                            |out| write.layout.encode(row, out),
                        ) {
                            Ok(encoded) => {
                                self.counters
                                    .vectors_dropped
                                    .fetch_add(encoded.vectors_dropped.into(), Ordering::Relaxed);
                                None
                            }
                            Err(error) => Some(("encoding", error.to_string())),
                        },
                    });
            match problem {
                None => request.writes.push(write),
                Some((kind, reason)) => refused.push(Refusal {
                    write,
                    document: None,
                    kind: kind.to_owned(),
                    reason,
                }),
            }
        }
        (request, refused)
    }

    async fn send(&self, request: Request) -> Result<Round, Stop> {
        let bound = Version(self.bound.load(Ordering::Relaxed));
        match self
            .client
            .bulk(&self.options.index, &request.bulk, bound)
            .await
        {
            Ok(verdicts) => self.sort(request, verdicts),
            Err(error) if error.is_too_large() => Ok(request.split(error.to_string())),
            Err(error) if error.is(NO_INDEX) => Err(self.index_gone()),
            Err(error) => Ok(Round {
                left: vec![request],
                trouble: Some(error.to_string()),
                ..Round::default()
            }),
        }
    }

    /// Sorts a request's operations by what became of them.
    fn sort(&self, request: Request, verdicts: Vec<Verdict>) -> Result<Round, Stop> {
        let Request { bulk, writes } = request;
        let mut round = Round::default();
        let (mut places, mut left) = (Vec::new(), Vec::new());
        for (place, (write, verdict)) in writes.into_iter().zip(verdicts).enumerate() {
            match verdict {
                Verdict::Applied | Verdict::Superseded => {
                    if self.dead_keys.hold_older(&write.operation) {
                        round
                            .mended
                            .push((write.operation.key, write.operation.version));
                    }
                    round.resolved.push(write.ticket);
                }
                Verdict::Refused { kind, reason } => round.refused.push(Refusal {
                    document: bulk.source(place).map(<[u8]>::to_vec),
                    write,
                    kind,
                    reason,
                }),
                Verdict::System { kind, .. } if kind == NO_INDEX => return Err(self.index_gone()),
                Verdict::Overloaded { kind, reason } | Verdict::System { kind, reason } => {
                    round
                        .trouble
                        .get_or_insert_with(|| format!("{kind}: {reason}"));
                    places.push(place);
                    left.push(write);
                }
                Verdict::Foreign { stored } => {
                    return Err(Stop::ForeignVersion {
                        key: write.operation.key.to_string(),
                        index: self.options.index.clone(),
                        stored,
                    });
                }
            }
        }
        self.counters
            .delivered
            .fetch_add(round.resolved.len() as u64, Ordering::Relaxed);
        if !left.is_empty() {
            round.left.push(Request {
                bulk: bulk.select(&places),
                writes: left,
            });
        }
        Ok(round)
    }

    /// The template's guard keeps a write from making it anew, empty; nobody else will bring it back.
    fn index_gone(&self) -> Stop {
        Stop::IndexReplaced {
            index: self.options.index.clone(),
            state: "gone".to_owned(),
        }
    }

    /// Stores refused operations as dead letters, and only then counts them as resolved.
    async fn set_aside(&self, refused: Vec<Refusal>) -> Result<Vec<Ticket>, Stop> {
        let Some(first) = refused.first() else {
            return Ok(Vec::new());
        };
        let (key, reason) = (
            first.write.operation.key.to_string(),
            format!("{}: {}", first.kind, first.reason),
        );
        if self.options.on_refusal == OnRefusal::Stop {
            return Err(Stop::Refused { key, reason });
        }
        tracing::warn!(
            documents = refused.len(),
            reason,
            "documents refused, setting them aside as dead letters"
        );
        let letters: Vec<DeadLetter> = refused
            .iter()
            .map(|refusal| refusal.letter(self.options.run))
            .collect();
        failpoint!("dead-letters-to-be-stored");
        let mut attempt = 0;
        while let Err(error) = self.dead_letters.store(&letters).await {
            attempt += 1;
            self.pause(attempt, &format!("storing dead letters: {error}"))
                .await?;
        }
        failpoint!("dead-letters-stored");
        self.counters
            .dead_letters
            .fetch_add(letters.len() as u64, Ordering::Relaxed);
        self.dead_keys
            .add(refused.iter().map(|refusal| &refusal.write.operation));
        Ok(refused.iter().map(|refusal| refusal.write.ticket).collect())
    }

    /// Clears the dead letters of keys whose document is good again. One that cannot be cleared now
    /// stays until the key's next change, or until a person purges it.
    async fn clear(&self, mended: Vec<(Key, Version)>) {
        if mended.is_empty() {
            return;
        }
        match self.dead_letters.clear(&mended).await {
            Ok(()) => {
                failpoint!("dead-letters-cleared");
                self.dead_keys.remove(&mended);
            }
            Err(error) => {
                tracing::warn!(%error, keys = mended.len(), "dead letters of documents that are good again could not be cleared");
            }
        }
    }

    /// Waits before the next attempt, or gives up.
    async fn pause(&self, attempt: u32, trouble: &str) -> Result<(), Stop> {
        let Some(wait) = self.options.retry.wait(attempt) else {
            return Err(Stop::RetriesExhausted {
                attempts: attempt,
                cause: trouble.to_owned(),
            });
        };
        tracing::warn!(
            index = self.options.index,
            attempt,
            wait_seconds = wait.as_secs_f64(),
            trouble,
            "Elasticsearch did not take a request, sending again what failed"
        );
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// A bulk request and the operations in it, in its order.
struct Request {
    bulk: Bulk,
    writes: Vec<Write>,
}

impl Request {
    /// Two halves of a request that is too large; a single document that is, is refused.
    fn split(mut self, reason: String) -> Round {
        let middle = self.writes.len() / 2;
        if middle == 0 {
            let document = self.bulk.source(0).map(<[u8]>::to_vec);
            let refuse = |write| Refusal {
                write,
                document,
                kind: "content_too_large".to_owned(),
                reason,
            };
            return Round {
                refused: self.writes.pop().map(refuse).into_iter().collect(),
                ..Round::default()
            };
        }
        let places: Vec<usize> = (0..self.writes.len()).collect();
        let back = Self {
            bulk: self.bulk.select(&places[middle..]),
            writes: self.writes.split_off(middle),
        };
        let front = Self {
            bulk: self.bulk.select(&places[..middle]),
            writes: self.writes,
        };
        Round {
            left: vec![back, front],
            ..Round::default()
        }
    }
}

/// What became of the operations of a request.
#[derive(Default)]
struct Round {
    resolved: Vec<Ticket>,
    refused: Vec<Refusal>,
    /// Delivered keys that had a dead letter.
    mended: Vec<(Key, Version)>,
    left: Vec<Request>,
    /// Why something is left, unless it only was too much at once.
    trouble: Option<String>,
}

/// An operation that will be refused however often it is sent.
struct Refusal {
    write: Write,
    document: Option<Vec<u8>>,
    kind: String,
    reason: String,
}

impl Refusal {
    fn letter(&self, run: u64) -> DeadLetter {
        let Operation {
            key,
            version,
            action,
        } = &self.write.operation;
        DeadLetter {
            key: key.clone(),
            version: *version,
            action: if matches!(action, Action::Delete) {
                RefusedAction::Delete
            } else {
                RefusedAction::Index
            },
            kind: self.kind.clone(),
            reason: self.reason.clone(),
            document: self
                .document
                .as_deref()
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
            run,
            at: Timestamp::now(),
        }
    }
}

/// Keys that have a dead letter, with its version: a later good version of the key clears it.
#[derive(Debug)]
struct DeadKeys {
    keys: Mutex<HashMap<Key, Version>>,
    /// Spares nearly every run the lock and the look.
    count: AtomicUsize,
}

impl DeadKeys {
    fn new(keys: HashMap<Key, Version>) -> Self {
        Self {
            count: keys.len().into(),
            keys: keys.into(),
        }
    }

    /// Whether the operation's key has a letter that is older than the operation.
    fn hold_older(&self, operation: &Operation) -> bool {
        self.count.load(Ordering::Acquire) > 0
            && self
                .lock()
                .get(&operation.key)
                .is_some_and(|letter| *letter < operation.version)
    }

    fn add<'a>(&self, refused: impl Iterator<Item = &'a Operation>) {
        let mut keys = self.lock();
        keys.extend(refused.map(|operation| (operation.key.clone(), operation.version)));
        self.count.store(keys.len(), Ordering::Release);
    }

    fn remove(&self, mended: &[(Key, Version)]) {
        let mut keys = self.lock();
        for (key, version) in mended {
            if keys.get(key).is_some_and(|letter| letter < version) {
                keys.remove(key);
            }
        }
        self.count.store(keys.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Version>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
