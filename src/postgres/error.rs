//! What PostgreSQL answered when it did not do what was asked, and whether that heals by itself.

use tokio_postgres::error::SqlState;

/// A statement that failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {}", cause(source))]
pub struct Error {
    /// What was being done, on which object.
    pub doing: String,
    /// The client's or the server's error.
    #[source]
    pub source: tokio_postgres::Error,
}

impl Error {
    /// Gives a client error its context: `.map_err(Error::doing("reading the table"))`.
    pub(crate) fn doing(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let doing = what.into();
        move |source| Self { doing, source }
    }

    /// Whether trying again later can succeed without anybody doing something: a lost connection, a
    /// server that starts, stops or fails over, a lock or resource that is taken.
    #[must_use]
    pub fn heals(&self) -> bool {
        self.source.code().is_none_or(|state| heals(state.code()))
    }

    /// Whether another session uses what is to be changed.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.source.code() == Some(&SqlState::OBJECT_IN_USE)
    }

    /// Whether the role lacks a right.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
    }
}

/// Whether a SQLSTATE (manual: "PostgreSQL Error Codes") stands for a passing trouble.
#[must_use]
pub(crate) fn heals(state: &str) -> bool {
    // Connection, resources, operator intervention (restart, termination), serialization.
    const CLASSES: [&str; 4] = ["08", "53", "57", "40"];
    // Object in use, lock not available.
    const STATES: [&str; 2] = ["55006", "55P03"];
    state.get(..2).is_some_and(|class| CLASSES.contains(&class)) || STATES.contains(&state)
}

/// The error's own sentence: `tokio_postgres` says only "db error" and keeps the text in its source.
fn cause(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let hint = db
                .hint()
                .map(|hint| format!(" ({hint})"))
                .unwrap_or_default();
            format!("{} [{}]{hint}", db.message(), db.code().code())
        }
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::heals;

    #[test]
    fn passing_troubles_heal_and_refusals_do_not() {
        for state in [
            "57P01", "57P03", "08006", "53300", "55006", "55P03", "40001",
        ] {
            assert!(heals(state), "{state}");
        }
        for state in ["42501", "42P01", "28P01", "22P02", "55000", ""] {
            assert!(!heals(state), "{state}");
        }
    }
}
