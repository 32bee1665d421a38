//! The named stops: why the program ended, on which object, what to do, and its exit code.
//!
//! A stop is a trouble that does not heal by itself. What heals is retried and never comes here,
//! except from a one-shot run that has used up its retries.

use crate::change::{Lsn, Version};

/// A reason to end that a person has to deal with. Its text is the message on the terminal.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Something that is not foreseen, such as an answer that no version of a server should give.
    #[error("{0}")]
    Unexpected(String),
    /// A setting that is missing, unknown, out of range, or does not fit the table.
    #[error("{0}")]
    Settings(String),
    /// A one-shot run that reached its end, with documents that Elasticsearch refused.
    #[error(
        "documents refused and set aside in {index}: {count}; the first: key {key:?}: {reason}"
    )]
    DeadLetters {
        /// How many.
        count: u64,
        /// Where they are.
        index: String,
        /// Key of the first one.
        key: String,
        /// Why it was refused.
        reason: String,
    },
    /// A refused document, with `ES_CLIENT_RAISE_ERRORS=1`.
    #[error(
        "Elasticsearch refused the document with key {key:?}: {reason}. Everything before it is stored; correct the row or the mapping and start again, or let refused documents be set aside with ES_CLIENT_RAISE_ERRORS=0"
    )]
    Refused {
        /// Its key.
        key: String,
        /// Why.
        reason: String,
    },
    /// Refusals that are not the single documents' fault, or more of them than anybody looks through.
    #[error(
        "{found}; the next: key {key:?}: {reason}. No position was passed over. Correct the rows and start again, correct the mapping and `sync-es rebuild`, or let more be set aside with SYNC_ES_DEAD_LETTER_LIMIT"
    )]
    TooManyRefused {
        /// How many, and of what kind.
        found: String,
        /// Key of the first that is not set aside.
        key: String,
        /// Why it was refused.
        reason: String,
    },
    /// A comparison that found differences which are still there.
    #[error("documents not equal to their rows: {differ}; `sync-es verify --repair` mends them")]
    Differs {
        /// How many.
        differ: u64,
    },
    /// A comparison that could not decide about some keys.
    #[error(
        "documents not equal to their rows when they were compared: {undecided}, and the changes that could explain it have not arrived: let `sync-es run` catch up, then compare again"
    )]
    Undecided {
        /// How many.
        undecided: u64,
    },
    /// There is no generation to be rebuilt or gone back to, or another instance is at it.
    #[error("cannot rebuild: {0}")]
    CannotRebuild(String),
    /// A one-shot run that has tried as often as `ES_MAX_RETRIES` says.
    #[error(
        "gave up after {attempts} attempts: {cause}. The position is saved: start again to go on from there"
    )]
    RetriesExhausted {
        /// How often it was tried.
        attempts: u32,
        /// What failed the last time.
        cause: String,
    },
    /// PostgreSQL cannot be reached or refuses the login.
    #[error("{0}")]
    Postgres(String),
    /// Elasticsearch cannot be reached or refuses the login.
    #[error("{0}")]
    Elasticsearch(String),
    /// Something that must be so is not; nothing has been changed.
    #[error("not ready to run:{}", listed(.0))]
    Preconditions(Vec<Precondition>),
    /// The slot is gone, or its WAL is.
    #[error(
        "replication slot {slot:?} is {state}: changes after {acknowledged} may be lost. `sync-es rebuild` fills a new index from the table and moves the alias to it; start again with SYNC_ES_LOST_SLOT=heal to have this one compared and mended instead"
    )]
    SlotLost {
        /// The slot.
        slot: String,
        /// `gone` or `invalidated (…)`.
        state: String,
        /// The last position that is stored.
        acknowledged: Lsn,
    },
    /// Somebody moved the slot past what is stored.
    #[error(
        "replication slot {slot:?} is confirmed up to {confirmed}, but only {acknowledged} is stored: the changes between are gone. `sync-es rebuild` fills a new index from the table and moves the alias to it; then start again"
    )]
    SlotAhead {
        /// The slot.
        slot: String,
        /// What PostgreSQL was told.
        confirmed: Lsn,
        /// What is stored.
        acknowledged: Lsn,
    },
    /// A slot of our name that our records do not know.
    #[error(
        "replication slot {slot:?} exists, but {why}. If nothing else uses it: `sync-es drop-slot`; otherwise choose another SYNC_ES_SLOT"
    )]
    ForeignSlot {
        /// The slot.
        slot: String,
        /// What does not fit.
        why: String,
    },
    /// An index that this program did not make, or made from something else.
    #[error(
        "index {index:?} {why}. Its documents cannot be told apart from this table's: choose another ELASTICSEARCH_INDEX_NAME, or delete the index"
    )]
    ForeignIndex {
        /// The index.
        index: String,
        /// What does not fit.
        why: String,
    },
    /// The index that the position belongs to is not the one that is there.
    #[error(
        "index {index:?} is {state}, and the stored position belongs to the one that was: it was deleted, restored or replaced. If the alias is still on it: `sync-es rebuild`, then start again; otherwise `sync-es drop-slot`, then start with the next ELASTICSEARCH_INDEX_NAME"
    )]
    IndexReplaced {
        /// The index.
        index: String,
        /// `gone`, or another index of the same name.
        state: String,
    },
    /// The database is not the one that the index was made from.
    #[error(
        "the index was made from {expected}, but PostgreSQL is {found}: LSNs of one say nothing of the other. If that is the server that is meant and the alias is on the index: `sync-es rebuild` fills a new one from this table and moves the alias to it, then start again; if it is on none yet: start with the next ELASTICSEARCH_INDEX_NAME"
    )]
    OtherDatabase {
        /// System identifier and timeline in our records.
        expected: String,
        /// Those of the server.
        found: String,
        /// It is the same cluster on a later timeline, with all of the WAL that the index began with: a
        /// standby was promoted, or a backup restored.
        promoted: bool,
    },
    /// The stream would leave changes out, without saying so.
    #[error(
        "publication {publication:?} {lacks}: changes are missing from the stream since then. Mend it and start again: the table is then read anew into the same index"
    )]
    PublicationLost {
        /// The publication.
        publication: String,
        /// What it lacks.
        lacks: &'static str,
    },
    /// A document carries a version that no commit can have given it.
    #[error(
        "the document with key {key:?} in index {index:?} has version {stored}, above every version up to the WAL's end: another writer, or an index restored beside an older database. `sync-es rebuild` fills a new index from the table and moves the alias to it; then start again"
    )]
    ForeignVersion {
        /// Its key.
        key: String,
        /// The index.
        index: String,
        /// Its version.
        stored: Version,
    },
    /// The table was dropped, lost its key, or what its rows need is not what the index has.
    #[error("the table does not fit the index any more: {why}. {mend}")]
    TableChanged {
        /// What changed.
        why: String,
        /// What leads on.
        mend: &'static str,
    },
    /// The stream cannot be understood; going on would lose changes.
    #[error("the replication stream cannot be gone on with: {0}")]
    Stream(String),
    /// Another instance has written our run metadata.
    #[error(
        "another instance of sync-es has taken over run metadata {0:?}; this one stops before it writes anything more"
    )]
    Fenced(String),
}

/// A thing that must be so before anything is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// What was looked at and what was found.
    pub found: String,
    /// The setting, statement or request that mends it.
    pub mend: String,
}

impl Stop {
    /// The table does not fit the index, and a new one would fit it.
    #[must_use]
    pub fn table_changed(why: impl Into<String>) -> Self {
        Self::TableChanged {
            why: why.into(),
            mend: "`sync-es rebuild`, with the settings that are meant, fills a new index and moves the alias to it; then start again with the same settings",
        }
    }

    /// Why changes that the index has not had may be in no log any more, if nothing else is wrong.
    #[must_use]
    pub fn lost_changes(&self) -> Option<String> {
        match self {
            Self::SlotLost { slot, state, .. } => {
                Some(format!("replication slot {slot:?} is {state}"))
            }
            Self::OtherDatabase {
                expected,
                found,
                promoted: true,
            } => Some(format!(
                "the index was made from {expected}, and PostgreSQL is {found}: a standby was promoted, or a backup restored"
            )),
            _ => None,
        }
    }

    /// The process's exit code: one a kind of stop, the same in every version.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unexpected(_) => 1,
            Self::Settings(_) => 2,
            Self::DeadLetters { .. } => 3,
            Self::Refused { .. } => 4,
            Self::RetriesExhausted { .. } => 5,
            Self::TooManyRefused { .. } => 6,
            Self::Differs { .. } => 7,
            Self::Undecided { .. } => 8,
            Self::CannotRebuild(_) => 9,
            Self::Postgres(_) => 10,
            Self::Elasticsearch(_) => 11,
            Self::Preconditions(_) => 12,
            Self::SlotLost { .. } => 20,
            Self::SlotAhead { .. } => 21,
            Self::ForeignSlot { .. } => 22,
            Self::ForeignIndex { .. } => 23,
            Self::IndexReplaced { .. } => 24,
            Self::OtherDatabase { .. } => 25,
            Self::ForeignVersion { .. } => 26,
            Self::TableChanged { .. } => 27,
            Self::Stream(_) => 28,
            Self::Fenced(_) => 29,
            Self::PublicationLost { .. } => 30,
        }
    }
}

fn listed(preconditions: &[Precondition]) -> String {
    let lines: Vec<String> = preconditions
        .iter()
        .map(|one| format!("\n  - {}\n    {}", one.found, one.mend))
        .collect();
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unmet_precondition_is_told_with_its_remedy() {
        let one = |found: &str, mend: &str| Precondition {
            found: found.to_owned(),
            mend: mend.to_owned(),
        };
        let stop = Stop::Preconditions(vec![
            one(
                "wal_level is replica",
                "ALTER SYSTEM SET wal_level = logical; restart",
            ),
            one("b", "c"),
        ]);
        assert_eq!(
            stop.to_string(),
            "not ready to run:\n  - wal_level is replica\n    ALTER SYSTEM SET wal_level = logical; restart\n  - b\n    c"
        );
        assert_eq!(stop.exit_code(), 12);
    }
}
