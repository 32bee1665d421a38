//! Up to where is everything resolved? The highest position below which nothing is open.
//!
//! Tickets are taken in the order of the source: one a transaction, one a page of the snapshot. A
//! ticket is done when it is sealed (no operation will be added) and all of its operations are
//! resolved; a position is reached when its ticket and all before it are done. The caller stores a
//! reached position first and confirms it second.
//!
//! With each position come the books up to it: operations are counted when they come and when they
//! end, and the two agree there.
//!
//! Pure: no clock, no I/O. `P` is what the source calls a position: an LSN, or the key of a row.

use std::collections::VecDeque;

/// Names an entry of an [`Acknowledgement`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Applied, or superseded by a newer one of its key.
    Delivered,
    /// Refused, and stored as a dead letter.
    Refused,
}

/// Operations counted: what came, and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Books {
    /// Operations that came.
    pub operations: u64,
    /// Those of them that ended as [`Fate::Delivered`].
    pub delivered: u64,
    /// Those of them that ended as [`Fate::Refused`].
    pub refused: u64,
}

/// A position below which nothing is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached<P> {
    /// The position.
    pub position: P,
    /// What came and ended up to it, from the first ticket on.
    pub books: Books,
}

/// The tickets that are not done yet, oldest first.
#[derive(Debug)]
pub struct Acknowledgement<P> {
    entries: VecDeque<Entry<P>>,
    /// Number of the entry at the front.
    front: u64,
    /// Of all entries that are done.
    books: Books,
}

#[derive(Debug)]
struct Entry<P> {
    open: u64,
    books: Books,
    /// Set when the entry is sealed.
    position: Option<P>,
}

impl<P> Default for Acknowledgement<P> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            front: 0,
            books: Books::default(),
        }
    }
}

impl<P> Acknowledgement<P> {
    /// A new ticket behind all others.
    pub fn begin(&mut self) -> Ticket {
        self.entries.push_back(Entry {
            open: 0,
            books: Books::default(),
            position: None,
        });
        Ticket(self.front + self.entries.len() as u64 - 1)
    }

    /// `count` more operations are open under the ticket. A ticket that is sealed may still get
    /// some while another of its operations is open: a TRUNCATE becomes deletes when its turn comes.
    ///
    /// # Panics
    /// The ticket is sealed and all of its operations are resolved.
    pub fn add(&mut self, ticket: Ticket, count: u64) {
        let entry = self.entry(ticket);
        assert!(
            entry.position.is_none() || entry.open > 0,
            "operations added to a ticket that is done"
        );
        entry.open += count;
        entry.books.operations += count;
    }

    /// The source has no more operations for the ticket; `position` is what it stands for. Returns the
    /// position that is reached by this, if any.
    ///
    /// # Panics
    /// The ticket is sealed already.
    pub fn seal(&mut self, ticket: Ticket, position: P) -> Option<Reached<P>> {
        let entry = self.entry(ticket);
        assert!(entry.position.is_none(), "a ticket sealed twice");
        entry.position = Some(position);
        self.merge_empty_tail();
        self.reached()
    }

    /// `count` operations of the ticket have ended so. Returns the position that is reached by
    /// this, if any.
    ///
    /// # Panics
    /// More operations are resolved than were added.
    pub fn resolve(&mut self, ticket: Ticket, fate: Fate, count: u64) -> Option<Reached<P>> {
        let entry = self.entry(ticket);
        assert!(
            count <= entry.open,
            "more operations resolved than were open"
        );
        entry.open -= count;
        match fate {
            Fate::Delivered => entry.books.delivered += count,
            Fate::Refused => entry.books.refused += count,
        }
        self.reached()
    }

    /// Whether every ticket is done.
    #[cfg(test)]
    fn is_done(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry(&mut self, ticket: Ticket) -> &mut Entry<P> {
        let place = ticket
            .0
            .checked_sub(self.front)
            .and_then(|place| usize::try_from(place).ok());
        let entry = place.and_then(|place| self.entries.get_mut(place));
        entry.unwrap_or_else(|| panic!("ticket {} is done", ticket.0))
    }

    /// A sealed entry without operations behind another sealed one only moves that one's position:
    /// idle times add no entries while an older operation stays open.
    fn merge_empty_tail(&mut self) {
        let last = self.entries.len().saturating_sub(1);
        if last == 0
            || self.entries[last].open > 0
            || self.entries[last].position.is_none()
            || self.entries[last - 1].position.is_none()
        {
            return;
        }
        if let Some(merged) = self.entries.pop_back() {
            let entry = &mut self.entries[last - 1];
            entry.position = merged.position;
            entry.books.add(merged.books);
        }
    }

    fn reached(&mut self) -> Option<Reached<P>> {
        let mut reached = None;
        while let Some(entry) = self.entries.front_mut() {
            if entry.open > 0 || entry.position.is_none() {
                break;
            }
            reached = entry.position.take();
            self.books.add(entry.books);
            self.entries.pop_front();
            self.front += 1;
        }
        let books = self.books;
        reached.map(|position| Reached { position, books })
    }
}

impl Books {
    /// What was entered after `earlier` was the state of the same books.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            operations: self.operations - earlier.operations,
            delivered: self.delivered - earlier.delivered,
            refused: self.refused - earlier.refused,
        }
    }

    fn add(&mut self, more: Self) {
        self.operations += more.operations;
        self.delivered += more.delivered;
        self.refused += more.refused;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs a line such as `open a 2 | seal a 10 | close a 1 -> nothing | close a 1 -> 10`.
    fn play(line: &str) {
        let mut acks = Acknowledgement::default();
        let mut tickets = std::collections::HashMap::new();
        for step in line.split('|') {
            let (order, wanted) = step.split_once("->").unwrap_or((step, "nothing"));
            let words: Vec<&str> = order.split_whitespace().collect();
            let number = || words[2].parse::<u64>().unwrap();
            let reached = match words[0] {
                "open" => {
                    let ticket = *tickets.entry(words[1]).or_insert_with(|| acks.begin());
                    acks.add(ticket, number());
                    None
                }
                "seal" => {
                    let ticket = *tickets.entry(words[1]).or_insert_with(|| acks.begin());
                    acks.seal(ticket, number())
                }
                "close" => acks.resolve(tickets[words[1]], Fate::Delivered, number()),
                other => panic!("{other}"),
            };
            let reached =
                reached.map_or("nothing".to_owned(), |reached| reached.position.to_string());
            assert_eq!(reached, wanted.trim(), "{step} in {line}");
        }
    }

    #[test]
    fn a_position_is_reached_when_nothing_before_it_is_open() {
        play(
            "open a 1 | open b 1 | seal a 10 | seal b 11 | close b 1 -> nothing | close a 1 -> 11",
        );
        play("open a 2 | close a 2 | seal a 10 -> 10");
        play(
            "open a 2 | seal a 10 | close a 1 -> nothing | close a 1 -> 10 | open b 1 | seal b 11 | close b 1 -> 11",
        );
    }

    #[test]
    fn an_unsealed_ticket_holds_back_all_behind_it() {
        play(
            "open a 1 | close a 1 -> nothing | seal b 20 -> nothing | open a 3 | close a 3 -> nothing | seal a 10 -> 20",
        );
    }

    #[test]
    fn a_sealed_ticket_can_grow_while_an_operation_of_it_is_open() {
        play("open a 1 | seal a 10 | open a 2 | close a 1 -> nothing | close a 2 -> 10");
    }

    #[test]
    fn an_idle_position_is_reached_at_once_or_with_what_is_before_it() {
        play(
            "seal a 5 -> 5 | open b 1 | seal b 7 | seal c 9 -> nothing | seal d 12 -> nothing | close b 1 -> 12",
        );
    }

    #[test]
    fn idle_positions_behind_an_open_operation_take_no_memory() {
        let mut acks = Acknowledgement::default();
        let open = acks.begin();
        acks.add(open, 1);
        acks.seal(open, 0);
        for position in 1..10_000 {
            let idle = acks.begin();
            assert_eq!(acks.seal(idle, position), None);
        }
        assert_eq!(acks.entries.len(), 1);
        let reached = acks.resolve(open, Fate::Delivered, 1).unwrap();
        assert_eq!(reached.position, 9_999);
        assert!(acks.is_done());
    }

    proptest! {
        /// Whatever the order of resolution, a position is never reached before all up to it is
        /// resolved, positions only grow, and in the end the last one is reached.
        #[test]
        fn no_position_runs_ahead_of_an_open_operation(counts in prop::collection::vec(0u64..4, 1..40), order in any::<u64>()) {
            let mut acks = Acknowledgement::default();
            let mut open = Vec::new();
            let mut reached = None;
            for (position, &count) in counts.iter().enumerate() {
                let ticket = acks.begin();
                acks.add(ticket, count);
                open.extend(std::iter::repeat_n((position, ticket), usize::try_from(count).unwrap()));
                reached = acks.seal(ticket, position).map(|reached| reached.position).or(reached);
                prop_assert!(open.iter().all(|(at, _)| reached.is_none_or(|reached| *at > reached)));
            }
            let mut random = order | 1;
            while !open.is_empty() {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let place = usize::try_from(random >> 33).unwrap() % open.len();
                let (_, ticket) = open.swap_remove(place);
                let fate = if random & (1 << 32) == 0 { Fate::Delivered } else { Fate::Refused };
                if let Some(Reached { position: now, books }) = acks.resolve(ticket, fate, 1) {
                    prop_assert_eq!(books.operations, counts[..=now].iter().sum::<u64>());
                    prop_assert_eq!(books.operations, books.delivered + books.refused);
                    prop_assert!(reached.is_none_or(|before| now > before));
                    reached = Some(now);
                }
                prop_assert!(open.iter().all(|(at, _)| reached.is_none_or(|reached| *at > reached)));
            }
            prop_assert_eq!(reached, Some(counts.len() - 1));
            prop_assert!(acks.is_done());
        }
    }
}
