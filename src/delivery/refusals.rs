//! When is a refusal not its document's own fault? When nearly all documents are refused alike, or
//! when there are more refusals than anybody will look through: then the mapping or the table as a
//! whole is at fault, and setting it all aside would empty the index in silence.
//!
//! Also keeps which keys have a dead letter, so that a later good version of a key clears its
//! letter; the limit bounds that memory. Pure: no clock, no I/O.

use std::collections::{HashMap, HashSet};

use crate::change::{Key, Operation, Version};

/// Of so many documents all but one are refused alike, or they are no run.
const IN_A_RUN: usize = 10;
/// A run of the limit's tenth is too much: whoever really wants so many set aside raises one number.
const LIMIT_PART: usize = 10;

/// The shortest run of documents refused alike that is taken for more than their own fault.
const RUN_MIN: usize = 100;

/// Bytes of a reason that tell its kind: the field, its type, the rule; the values stand behind.
const SHAPE_BYTES: usize = 100;

/// Why documents are not set aside any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooMany {
    /// As many keys have a letter as there may be.
    Limit(usize),
    /// So many documents were refused alike, and hardly any was taken meanwhile.
    Alike(usize),
}

/// The refusals of a generation, and the limit that is set.
#[derive(Debug)]
pub(super) struct Refusals {
    limit: usize,
    letters: HashMap<Key, Version>,
    /// Of these the letter is not stored yet, or not again.
    unstored: HashSet<Key>,
    run: Run,
}

/// Documents refused alike, one after the other but for a few. Each such refusal counts one, each
/// other document takes nine away: the run only grows while more than nine in ten are refused.
#[derive(Debug, Default)]
struct Run {
    shape: String,
    length: usize,
}

impl Refusals {
    /// `letters` are those that there are already, of whatever number.
    pub(super) fn new(limit: usize, letters: HashMap<Key, Version>) -> Self {
        Self {
            limit,
            letters,
            unstored: HashSet::new(),
            run: Run::default(),
        }
    }

    /// Keys that have a letter.
    pub(super) fn count(&self) -> usize {
        self.letters.len()
    }

    /// Whether the operation's key has a letter that is older than the operation.
    pub(super) fn hold_older(&self, operation: &Operation) -> bool {
        self.letters
            .get(&operation.key)
            .is_some_and(|letter| *letter < operation.version)
    }

    /// The keys whose letter is older than this version.
    pub(super) fn older_than(&self, version: Version) -> Vec<Key> {
        let letters = self.letters.iter();
        let older = letters.filter(|(_, letter)| **letter < version);
        older.map(|(key, _)| key.clone()).collect()
    }

    /// So many documents were taken.
    pub(super) fn taken(&mut self, documents: usize) {
        self.run.taken(documents);
    }

    /// A document was refused and is to have a letter; call before the letter is stored.
    ///
    /// # Errors
    /// It is one too many. It has no letter then.
    pub(super) fn refused(
        &mut self,
        operation: &Operation,
        kind: &str,
        reason: &str,
    ) -> Result<(), TooMany> {
        let letter = self.letters.get(&operation.key);
        // A key that is changed again and again is one document; a replay is the same refusal.
        if letter.is_none_or(|letter| *letter == operation.version) {
            self.run.refused(shape(kind, reason));
            if self.run.length >= (self.limit / LIMIT_PART).max(RUN_MIN) {
                return Err(TooMany::Alike(self.run.length));
            }
        }
        if letter.is_none() && self.count() >= self.limit {
            return Err(TooMany::Limit(self.limit));
        }
        self.unstored.insert(operation.key.clone());
        self.letters
            .insert(operation.key.clone(), operation.version);
        Ok(())
    }

    /// The letters of these keys are stored.
    pub(super) fn stored<'k>(&mut self, keys: impl Iterator<Item = &'k Key>) {
        for key in keys {
            self.unstored.remove(key);
        }
    }

    /// The letters that are stored, as far as is known.
    pub(super) fn known(&self) -> HashMap<Key, Version> {
        let mut known = self.letters.clone();
        known.retain(|key, _| !self.unstored.contains(key));
        known
    }

    /// Somebody else has removed those letters that were `known` and that nobody `found` since.
    pub(super) fn removed(&mut self, known: &HashMap<Key, Version>, found: &HashMap<Key, Version>) {
        let is_gone = |key: &Key, version: &Version| {
            known.get(key) == Some(version) && !found.contains_key(key)
        };
        let unstored = &self.unstored;
        self.letters
            .retain(|key, version| unstored.contains(key) || !is_gone(key, version));
    }

    /// These keys' letters are cleared.
    pub(super) fn cleared(&mut self, mended: &[(Key, Version)]) {
        for (key, version) in mended {
            if self.letters.get(key).is_some_and(|letter| letter < version) {
                self.letters.remove(key);
            }
        }
    }
}

impl Run {
    fn refused(&mut self, shape: String) {
        if self.shape == shape {
            self.length += 1;
        } else if self.length < IN_A_RUN {
            *self = Self { shape, length: 1 };
        } else {
            self.length -= IN_A_RUN - 1;
        }
    }

    fn taken(&mut self, documents: usize) {
        let broken = documents.saturating_mul(IN_A_RUN - 1);
        self.length = self.length.saturating_sub(broken);
    }
}

/// What two refusals for the same cause have in common: no number (places in the document, lengths)
/// and nothing from where Elasticsearch begins to speak of the single document.
fn shape(kind: &str, reason: &str) -> String {
    let told = reason.split(" in document with id").next();
    let told = told.unwrap_or_default();
    let told = &told[..told.floor_char_boundary(SHAPE_BYTES)];
    let told = told.chars().filter(|c| !c.is_ascii_digit());
    format!("{kind}: {}", told.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Action;

    fn operation(number: usize, version: u64) -> Operation {
        Operation {
            key: Key::new(&number.to_string()),
            version: Version(version),
            action: Action::Delete,
        }
    }

    fn reason(number: usize) -> String {
        format!(
            "[1:{number}] failed to parse field [n] of type [long] in document with id '{number}'. Preview of field's value: 'x{number}'"
        )
    }

    /// Refuses documents from `from` on, for the reason that `cause` gives each, with `taken` good
    /// ones after each tenth, until it is too much or there are `documents`.
    fn refuse(
        refusals: &mut Refusals,
        documents: usize,
        taken: usize,
        cause: impl Fn(usize) -> String,
    ) -> Option<(usize, TooMany)> {
        (0..documents).find_map(|number| {
            if number % 10 == 9 {
                refusals.taken(taken);
            }
            let refused = refusals.refused(&operation(number, 1), "kind", &cause(number));
            refused.err().map(|too_many| (number, too_many))
        })
    }

    fn with_limit(limit: usize) -> Refusals {
        Refusals::new(limit, HashMap::new())
    }

    #[test]
    fn letters_that_others_have_removed_are_forgotten_and_no_others() {
        let letters = (0..3).map(|number| (operation(number, 1).key, Version(1)));
        let mut refusals = Refusals::new(10, letters.collect());
        // Those that are refused while it is looked are not missed for being stored later.
        refusals.refused(&operation(3, 2), "k", "r").unwrap();
        let known = refusals.known();
        assert_eq!(known.len(), 3);
        refusals.refused(&operation(1, 2), "k", "r").unwrap();
        let found = HashMap::from([(operation(2, 1).key, Version(1))]);
        refusals.removed(&known, &found);
        let has = |number| refusals.hold_older(&operation(number, 9));
        assert_eq!([0, 1, 2, 3].map(has), [false, true, true, true]);
        refusals.stored([operation(3, 2).key].iter());
        assert_eq!(refusals.known().len(), 2);
    }

    #[test]
    fn documents_that_are_all_refused_alike_are_noticed_at_a_tenth_of_the_limit() {
        let found = refuse(&mut with_limit(10_000), 5_000, 0, reason);
        assert_eq!(found, Some((999, TooMany::Alike(1_000))));
        // Nor does a good one now and then hide it.
        let mut refusals = with_limit(10_000);
        assert!((0..5_000).any(|number| {
            if number % 20 == 0 {
                refusals.taken(1);
            }
            refusals
                .refused(&operation(number, 1), "kind", &reason(number))
                .is_err()
        }));
    }

    #[test]
    fn a_few_refused_among_many_good_ones_go_up_to_the_limit() {
        let found = refuse(&mut with_limit(2_000), 5_000, 2, reason);
        assert_eq!(found, Some((2_000, TooMany::Limit(2_000))));
        let different = |number: usize| format!("field [{}]", "x".repeat(number % 50));
        let found = refuse(&mut with_limit(2_000), 5_000, 0, different);
        assert_eq!(found, Some((2_000, TooMany::Limit(2_000))));
    }

    #[test]
    fn a_run_is_of_different_documents_and_comes_again_in_a_replay() {
        let mut refusals = with_limit(1_000);
        for version in 1..5_000 {
            assert_eq!(refusals.refused(&operation(1, version), "kind", ""), Ok(()));
        }
        let found = refuse(&mut with_limit(1_000), 500, 0, reason);
        assert_eq!(found, Some((99, TooMany::Alike(100))));
        let letters = (0..99).map(|number| (operation(number, 1).key, Version(1)));
        let mut restarted = Refusals::new(1_000, letters.collect());
        let found = refuse(&mut restarted, 500, 0, reason);
        assert_eq!(found, Some((99, TooMany::Alike(100))));
    }

    #[test]
    fn a_low_limit_counts_before_a_run_does() {
        let found = refuse(&mut with_limit(50), 500, 0, reason);
        assert_eq!(found, Some((50, TooMany::Limit(50))));
    }

    #[test]
    fn a_key_counts_once_and_no_more_when_it_is_good_again() {
        let mut refusals = with_limit(2);
        let refused = |refusals: &mut Refusals, number, version| {
            refusals.refused(&operation(number, version), "kind", "")
        };
        for version in 1..20 {
            assert_eq!(refused(&mut refusals, 1, version), Ok(()));
        }
        assert_eq!(refused(&mut refusals, 2, 1), Ok(()));
        assert_eq!(refused(&mut refusals, 3, 1), Err(TooMany::Limit(2)));
        assert!(!refusals.hold_older(&operation(1, 19)));
        assert!(refusals.hold_older(&operation(1, 20)));
        let key = |number: usize| Key::new(&number.to_string());
        refusals.cleared(&[(key(1), Version(19)), (key(2), Version(2))]);
        assert_eq!(refusals.count(), 1, "an older success clears nothing");
        assert_eq!(refused(&mut refusals, 3, 1), Ok(()));
    }

    #[test]
    fn letters_from_before_may_be_more_than_the_limit_and_can_still_be_cleared() {
        let letters = (0..5).map(|number| (operation(number, 1).key, Version(1)));
        let mut refusals = Refusals::new(2, letters.collect());
        assert_eq!(
            refusals.refused(&operation(1, 2), "kind", ""),
            Ok(()),
            "its letter is replaced"
        );
        assert!(refusals.refused(&operation(7, 2), "kind", "").is_err());
        assert!(refusals.hold_older(&operation(3, 2)));
    }

    #[test]
    fn the_shape_of_a_reason_names_field_and_type_and_no_value() {
        assert_eq!(
            shape("kind", &reason(1)),
            "kind: [:] failed to parse field [n] of type [long]"
        );
        let cut = shape("kind", &"ä".repeat(200));
        assert_eq!(cut, format!("kind: {}", "ä".repeat(50)));
    }
}
