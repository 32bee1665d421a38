//! What a verification has found. Pure.

use std::collections::BTreeSet;

use crate::{
    change::{Key, Version},
    stop::Stop,
};

/// How a document and its row are not the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A row without a document.
    Missing,
    /// A document without a row.
    Extra,
    /// A document with other values than its row.
    Different,
}

impl Kind {
    /// Its word in a report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Different => "different",
        }
    }
}

/// A document that is not its row's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Whose.
    pub key: Key,
    /// In which way.
    pub kind: Kind,
    /// The fields that differ, of a document that is different.
    pub fields: BTreeSet<String>,
    /// The document's version, if there is one.
    pub version: Option<Version>,
    /// It has been mended.
    pub repaired: bool,
    /// Elasticsearch has refused the row's document.
    pub dead_letter: bool,
}

/// What was compared, and what came of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The index.
    pub index: String,
    /// Rows that were read in key order.
    pub rows: u64,
    /// Documents whose rows were looked up.
    pub documents: u64,
    /// Rows without a document.
    pub missing: u64,
    /// Documents without a row.
    pub extra: u64,
    /// Documents with other values than their row.
    pub different: u64,
    /// Those of the three that have been mended.
    pub repaired: u64,
    /// Keys whose documents were not the same as their rows when they were compared, and of which no more
    /// can be said: the stream did not come past the comparison, or the row changed again and again.
    pub undecided: u64,
    /// The first of the differences.
    pub differences: Vec<Difference>,
    /// Documents with a version above every commit's, equal or not: no change of their row can replace
    /// them, and no repair.
    pub foreign_versions: u64,
    /// Key and version of the first of these.
    pub first_foreign: Option<(Key, Version)>,
}

impl Report {
    /// Enters a difference; keeps it while there are no more than `kept`.
    pub(super) fn add(&mut self, difference: Difference, kept: usize) {
        *match difference.kind {
            Kind::Missing => &mut self.missing,
            Kind::Extra => &mut self.extra,
            Kind::Different => &mut self.different,
        } += 1;
        self.repaired += u64::from(difference.repaired);
        if self.differences.len() < kept {
            self.differences.push(difference);
        }
    }

    /// Enters documents with a version above every commit's.
    pub(super) fn add_foreign(&mut self, found: Vec<(Key, Version)>) {
        self.foreign_versions += found.len() as u64;
        if self.first_foreign.is_none() {
            self.first_foreign = found.into_iter().next();
        }
    }

    /// The stop that a document with a version above every commit's is.
    #[must_use]
    pub fn foreign_version(&self) -> Option<Stop> {
        let (key, stored) = self.first_foreign.as_ref()?;
        Some(Stop::ForeignVersion {
            key: key.to_string(),
            index: self.index.clone(),
            stored: *stored,
        })
    }

    /// All that was not the same when it was found, mended or not.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.missing + self.extra + self.different
    }

    /// Whether every document is its row's now, as far as was compared.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.found() == self.repaired && self.undecided == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_equal_once_all_that_was_found_is_mended() {
        let mut report = Report::default();
        assert!(report.is_equal());
        let mut add = |kind, repaired| {
            let difference = Difference {
                key: Key::new("a"),
                kind,
                fields: BTreeSet::new(),
                version: None,
                repaired,
                dead_letter: false,
            };
            report.add(difference, 1);
            report.is_equal()
        };
        assert!(add(Kind::Missing, true));
        assert!(!add(Kind::Extra, false));
        assert_eq!((report.found(), report.differences.len()), (2, 1));
        report.repaired += 1;
        assert!(report.is_equal());
        report.undecided = 1;
        assert!(!report.is_equal());
    }
}
