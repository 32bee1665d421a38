//! Which lane does a key take, and which operations go into the next request?
//!
//! All operations of a key take one lane, a lane has one unresolved request, and a key stands in a
//! request once: so a key's operations reach Elasticsearch in their order, and a failed one is
//! retried before a later one is sent. A later operation that meets an earlier one of its key in
//! the batch takes its place, and answers for it. Pure.

use std::{collections::HashMap, hash::BuildHasher, sync::Arc};

use foldhash::fast::FixedState;

use super::Ticket;
use crate::{
    change::{Action, Key, Operation},
    document::Layout,
};

/// An operation on its way, with what is needed to encode and to answer for it.
#[derive(Debug)]
pub struct Write {
    /// What is to be done.
    pub operation: Operation,
    /// How its row becomes a document.
    pub layout: Arc<Layout>,
    /// Whom to tell when it is resolved.
    pub ticket: Ticket,
    /// Its share of the memory in flight, given back when it is dropped.
    pub share: super::Share,
}

impl Write {
    /// Bytes of the row on the wire.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        wire_bytes(&self.operation)
    }
}

/// Bytes of an operation's row on the wire.
#[must_use]
pub fn wire_bytes(operation: &Operation) -> usize {
    match &operation.action {
        Action::Index(row) => row.bytes.len(),
        Action::Delete => operation.key.as_str().len(),
    }
}

/// The lane of a key, the same in every process.
#[must_use]
pub(super) fn lane(key: &Key, lanes: usize) -> usize {
    let hash = FixedState::default().hash_one(key);
    usize::try_from(hash % lanes as u64).unwrap_or_default()
}

/// The next request of a lane.
#[derive(Debug, Default)]
pub struct Batch {
    writes: Vec<Write>,
    /// Hashed without a secret: keys that were made to collide cost a comparison with each other one
    /// in a batch, not more.
    places: HashMap<Key, usize, FixedState>,
    superseded: Vec<Write>,
    bytes: usize,
}

impl Batch {
    /// Adds an operation behind those that are in it.
    pub fn add(&mut self, write: Write) {
        self.bytes += write.wire_bytes();
        if let Some(&place) = self.places.get(&write.operation.key) {
            self.superseded
                .push(std::mem::replace(&mut self.writes[place], write));
        } else {
            self.places
                .insert(write.operation.key.clone(), self.writes.len());
            self.writes.push(write);
        }
    }

    /// Whether it should be sent before anything is added.
    #[must_use]
    pub fn is_full(&self, documents: usize, wire_bytes: usize) -> bool {
        // What was replaced is held in memory too.
        self.writes.len() >= documents || self.bytes >= wire_bytes
    }

    /// The operations to send, a key once, and those whose place a later one took: they are
    /// resolved when the others are.
    #[must_use]
    pub fn into_writes(self) -> (Vec<Write>, Vec<Write>) {
        (self.writes, self.superseded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_always_takes_the_same_lane_and_all_lanes_are_used() {
        let keys: Vec<Key> = (0..1_000)
            .map(|number| Key::new(&number.to_string()))
            .collect();
        let mut used = [0; 4];
        for key in &keys {
            let place = lane(key, 4);
            assert_eq!(place, lane(key, 4));
            used[place] += 1;
        }
        assert!(used.iter().all(|&count| count > 150), "{used:?}");
    }
}
