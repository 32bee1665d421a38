//! How large may a request be, and how many may be under way? Less after an overload, more again
//! after each success.
//!
//! One level for both: an overload halves it, a success raises it by a step, so that what
//! Elasticsearch cannot take falls to a quarter at once and comes back slowly (additive increase,
//! multiplicative decrease, as TCP does it). Requests that were under way when the level fell speak
//! of the load before it and do not lower it again. A request that is too large whatever the load is
//! remembered beside it: the load does not change that limit. Pure: no clock, no I/O.

/// The level at which nothing is held back; a success raises it by one.
const LEVEL_MAX: u64 = 64;

/// The lowest level: an eighth of the documents, one request at a time. Less would not relieve a server
/// that takes hardly anything, and what it does take must get through in reasonable time.
const LEVEL_MIN: u64 = 8;

/// Bytes of a request's body, at most: about twice what a full batch takes. A larger document goes
/// alone.
const BODY_BYTES_MAX: u64 = 8 << 20;

/// What Elasticsearch takes at present.
#[derive(Debug, Clone)]
pub(super) struct Capacity {
    documents_max: usize,
    requests_max: usize,
    body_bytes_max: u64,
    level: u64,
    under_way: usize,
    /// How often the level has fallen.
    falls: u64,
}

/// The level that a request was sent at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SentAt {
    falls: u64,
}

impl Capacity {
    /// Starts at `documents_max` documents a request and `requests_max` requests under way.
    pub(super) fn new(documents_max: usize, requests_max: usize) -> Self {
        Self {
            documents_max,
            requests_max,
            body_bytes_max: BODY_BYTES_MAX,
            level: LEVEL_MAX,
            under_way: 0,
            falls: 0,
        }
    }

    /// Begins a request, if one more may be under way.
    pub(super) fn begin(&mut self) -> Option<SentAt> {
        if self.under_way >= self.requests() {
            return None;
        }
        self.under_way += 1;
        Some(SentAt { falls: self.falls })
    }

    /// A request has ended, however.
    pub(super) fn end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Elasticsearch took a request whole. True when nothing is held back any more by this.
    pub(super) fn succeeded(&mut self) -> bool {
        let raised = self.level < LEVEL_MAX;
        self.level += u64::from(raised);
        raised && self.level == LEVEL_MAX
    }

    /// Elasticsearch had no room for a request, or for a part of it.
    pub(super) fn overloaded(&mut self, sent_at: SentAt) {
        if sent_at.falls == self.falls {
            self.level = self.level.div_ceil(2).max(LEVEL_MIN);
            self.falls += 1;
        }
    }

    /// A body of this size is too large, whatever the load is.
    pub(super) fn too_large(&mut self, body_bytes: usize) {
        self.body_bytes_max = self.body_bytes_max.min(body_bytes as u64 / 2).max(1);
    }

    /// How much of its size and number requests have at present, up to 1.
    #[expect(clippy::cast_precision_loss, reason = "of numbers up to 64")]
    pub(super) fn ratio(&self) -> f64 {
        self.level as f64 / LEVEL_MAX as f64
    }

    /// Documents that a request may have, from 1.
    pub(super) fn documents(&self) -> usize {
        share(self.documents_max as u64, self.level)
    }

    /// Bytes that the body of a request may have; one document may always be larger.
    pub(super) fn body_bytes(&self) -> usize {
        share(self.body_bytes_max, self.level)
    }

    /// Requests that may be under way, from 1.
    pub(super) fn requests(&self) -> usize {
        share(self.requests_max as u64, self.level)
    }
}

/// The level's part of `whole`, rounded up, so that something is always let through.
fn share(whole: u64, level: u64) -> usize {
    let part = whole.saturating_mul(level).div_ceil(LEVEL_MAX).max(1);
    usize::try_from(part).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(capacity: &Capacity) -> (usize, usize, usize) {
        (
            capacity.documents(),
            capacity.requests(),
            capacity.body_bytes(),
        )
    }

    /// One request from its beginning to its end.
    fn overload(capacity: &mut Capacity) {
        let sent_at = capacity.begin().unwrap();
        capacity.overloaded(sent_at);
        capacity.end();
    }

    fn succeed(capacity: &mut Capacity, times: u64) {
        for _ in 0..times {
            capacity.succeeded();
        }
    }

    #[test]
    fn an_overload_halves_what_is_sent_and_successes_bring_it_back() {
        let mut capacity = Capacity::new(100, 4);
        assert_eq!(limits(&capacity), (100, 4, 8 << 20));
        let mut seen = Vec::new();
        for _ in 0..8 {
            overload(&mut capacity);
            seen.push((capacity.documents(), capacity.requests()));
        }
        assert_eq!(seen[..3], [(50, 2), (25, 1), (13, 1)]);
        assert_eq!(seen[3..], [(13, 1); 5], "the lowest level");
        let back: Vec<bool> = (0..65).map(|_| capacity.succeeded()).collect();
        assert_eq!(back.iter().position(|full| *full), Some(55));
        assert_eq!(back.iter().filter(|full| **full).count(), 1);
        assert_eq!(limits(&capacity), (100, 4, 8 << 20));
    }

    #[test]
    fn requests_that_were_under_way_together_lower_it_once() {
        let mut capacity = Capacity::new(100, 4);
        let sent: Vec<SentAt> = (0..4).map(|_| capacity.begin().unwrap()).collect();
        assert_eq!(capacity.begin(), None, "a fifth request");
        for sent_at in sent {
            capacity.overloaded(sent_at);
            capacity.end();
        }
        assert_eq!(capacity.documents(), 50);
    }

    #[test]
    fn a_body_that_is_too_large_stays_too_large() {
        let mut capacity = Capacity::new(100, 4);
        capacity.too_large(1_000_000);
        assert_eq!(capacity.body_bytes(), 500_000);
        capacity.too_large(4_000_000);
        succeed(&mut capacity, 100);
        assert_eq!(limits(&capacity), (100, 4, 500_000));
        for _ in 0..40 {
            capacity.too_large(capacity.body_bytes());
        }
        assert_eq!(capacity.body_bytes(), 1);
    }

    proptest! {
        /// Whatever happens, something may be sent and never more than was set; the requests under
        /// way never pass the limit that held when the last one began; enough successes bring all back.
        #[test]
        fn the_limits_hold_whatever_happens(
            documents_max in 1usize..100_000,
            requests_max in 1usize..9,
            events in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 0..300),
        ) {
            let mut capacity = Capacity::new(documents_max, requests_max);
            let mut under_way: Vec<SentAt> = Vec::new();
            for (event, which) in events {
                let before = (capacity.documents(), capacity.requests());
                if event == 0 || under_way.is_empty() {
                    let room = under_way.len() < capacity.requests();
                    let begun = capacity.begin();
                    prop_assert_eq!(begun.is_some(), room);
                    under_way.extend(begun);
                } else {
                    let sent_at = under_way.swap_remove(which.index(under_way.len()));
                    match event {
                        1 => drop(capacity.succeeded()),
                        2 => capacity.overloaded(sent_at),
                        _ => {}
                    }
                    capacity.end();
                }
                let (documents, requests, body_bytes) = limits(&capacity);
                prop_assert!((1..=documents_max).contains(&documents));
                prop_assert!((1..=requests_max).contains(&requests));
                prop_assert!(body_bytes > 0);
                prop_assert!(documents * 2 >= before.0 && requests * 2 >= before.1, "more than halved");
            }
            for _ in under_way {
                capacity.end();
            }
            succeed(&mut capacity, LEVEL_MAX);
            prop_assert_eq!((capacity.documents(), capacity.requests()), (documents_max, requests_max));
            prop_assert!(capacity.begin().is_some());
        }

        /// Lanes that send to a server which takes so many documents at a time get all through, and
        /// come near to what it takes.
        #[test]
        fn everything_gets_through_a_server_of_any_size(room in 1usize..400, documents in 1usize..20_000) {
            let mut capacity = Capacity::new(100, 4);
            let mut left = documents;
            let mut rounds = 0;
            while left > 0 {
                rounds += 1;
                let mut sent = Vec::new();
                while let Some(sent_at) = capacity.begin() {
                    sent.push((sent_at, capacity.documents()));
                }
                let mut free = room;
                for (sent_at, size) in sent {
                    if size <= free {
                        free -= size;
                        left = left.saturating_sub(size);
                        capacity.succeeded();
                    } else if free == room && size <= 13 {
                        left = left.saturating_sub(size);
                    } else {
                        capacity.overloaded(sent_at);
                    }
                    capacity.end();
                }
            }
            prop_assert!(rounds <= 20 + 16 * documents / room.min(400), "{rounds} rounds");
        }
    }
}
