//! A bulk request with the operations in it, cut to what Elasticsearch takes, and what became of it.
//! Pure: no clock, no I/O.

use std::time::Duration;

use jiff::Timestamp;

use super::{Ticket, lanes::Write};
use crate::{
    change::{Action, Key, Operation, Version},
    elasticsearch::{Bulk, DeadLetter, RefusedAction},
};

/// A bulk request and the operations in it, in its order.
#[derive(Default)]
pub(super) struct Request {
    pub(super) bulk: Bulk,
    pub(super) writes: Vec<Write>,
}

impl Request {
    /// Cuts it after as many operations as a request may have, by number and by the bytes of its
    /// body; the first always stays. Gives the rest.
    pub(super) fn cut(&mut self, documents: usize, body_bytes: usize) -> Option<Self> {
        let place = self.bulk.fitting(body_bytes).min(documents).max(1);
        if place >= self.writes.len() {
            return None;
        }
        let places: Vec<usize> = (0..self.writes.len()).collect();
        let rest = Self {
            bulk: self.bulk.select(&places[place..]),
            writes: self.writes.split_off(place),
        };
        self.bulk = self.bulk.select(&places[..place]);
        Some(rest)
    }

    /// Its one operation as refused, with its document.
    pub(super) fn into_refusals(self, kind: &str, reason: &str) -> Vec<Refusal> {
        let Self { bulk, writes } = self;
        let refusals = writes
            .into_iter()
            .enumerate()
            .map(|(place, write)| Refusal {
                write,
                document: bulk.source(place).map(<[u8]>::to_vec),
                kind: kind.to_owned(),
                reason: reason.to_owned(),
            });
        refusals.collect()
    }
}

/// What became of the operations of a request.
#[derive(Default)]
pub(super) struct Round {
    /// Applied, or superseded by a newer version.
    pub(super) resolved: Vec<Ticket>,
    /// How many of them were superseded.
    pub(super) superseded: usize,
    /// Documents among them.
    pub(super) documents: usize,
    /// Refused for good.
    pub(super) refused: Vec<Refusal>,
    /// Delivered keys that had a dead letter.
    pub(super) mended: Vec<(Key, Version)>,
    /// What has to be sent again.
    pub(super) left: Option<Request>,
    /// Why.
    pub(super) trouble: Option<Trouble>,
}

/// Why something has to be sent again, and how.
pub(super) struct Trouble {
    /// What Elasticsearch said.
    pub(super) cause: String,
    /// What it means for the next request.
    pub(super) means: Means,
}

/// What a trouble means for the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    /// Wait, and at least as long as Elasticsearch says, if it does.
    Wait(Option<Duration>),
    /// Cut it, at once: however long one waits, it is too large.
    Cut,
}

impl Round {
    /// Whether any operation has come to its end.
    pub(super) fn is_progress(&self) -> bool {
        !self.resolved.is_empty() || !self.refused.is_empty()
    }
}

/// An operation that will be refused however often it is sent.
pub(super) struct Refusal {
    pub(super) write: Write,
    pub(super) document: Option<Vec<u8>>,
    pub(super) kind: String,
    pub(super) reason: String,
}

impl Refusal {
    /// Key, and type with reason, for a message.
    pub(super) fn told(&self) -> (String, String) {
        let key = self.write.operation.key.to_string();
        (key, format!("{}: {}", self.kind, self.reason))
    }

    /// Its dead letter.
    pub(super) fn letter(&self, run: u64, at: Timestamp) -> DeadLetter {
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
            at,
        }
    }
}
