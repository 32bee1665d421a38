//! What can be wrong with what we are told: which setting, from where, what is expected.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::postgres::OptionsError;

/// Where a setting's value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag on the command line, with its dashes.
    Flag(String),
    /// A variable of the environment.
    Environment(String),
    /// A key of the TOML file.
    File {
        /// The key.
        key: String,
        /// The file.
        path: PathBuf,
    },
    /// Nothing was given; the variable that could.
    Default(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Environment(name) => write!(f, "{name} (environment)"),
            Self::File { key, path } => write!(f, "{key} ({})", path.display()),
            Self::Default(name) => write!(f, "{name} (default)"),
        }
    }
}

/// A setting that cannot be used. Nothing was contacted or changed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value of the wrong form or out of range.
    #[error("{origin}{}: {expected}", shown(value.as_deref()))]
    Value {
        /// Which setting, from where.
        origin: Origin,
        /// What was given; `None` when it may hold a secret.
        value: Option<String>,
        /// What is expected.
        expected: String,
    },
    /// Two settings that contradict each other.
    #[error("{first} and {second}: {problem}")]
    Contradiction {
        /// The one.
        first: Origin,
        /// The other.
        second: Origin,
        /// Why they do not go together.
        problem: String,
    },
    /// Credentials that are given by half or twice.
    #[error("{0}")]
    Incomplete(&'static str),
    /// A secret on the command line.
    #[error(
        "{flag} is not taken from the command line, where every user of the machine can read it; \
         set {variable} in the environment, or name a file that holds it in {variable}_FILE"
    )]
    SecretFlag {
        /// The flag.
        flag: String,
        /// The variable to use.
        variable: String,
    },
    /// A variable with our prefix that is no setting.
    #[error("unknown environment variable {name}{}", suggested(suggestion.as_deref()))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The setting that was probably meant.
        suggestion: Option<String>,
    },
    /// A key of the TOML file that is no setting.
    #[error("unknown key {key:?} in {}{}", path.display(), suggested(suggestion.as_deref()))]
    UnknownKey {
        /// The key.
        key: String,
        /// The file.
        path: PathBuf,
        /// The key that was probably meant.
        suggestion: Option<String>,
    },
    /// The TOML file is no TOML. The line is not shown: it may hold a secret.
    #[error("{}, line {line}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line of the problem, from 1.
        line: usize,
        /// The parser's words.
        problem: String,
    },
    /// A file that a setting names cannot be read.
    #[error("{origin}: cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which setting names it.
        origin: Origin,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// PostgreSQL's connection parameters.
    #[error(transparent)]
    Postgres(#[from] OptionsError),
}

impl SettingsError {
    pub(super) fn unreadable(origin: Origin, path: &Path, source: std::io::Error) -> Self {
        Self::Unreadable {
            origin,
            path: path.to_owned(),
            source,
        }
    }
}

fn shown(value: Option<&str>) -> String {
    value.map_or_else(String::new, |value| format!(" is {value:?}"))
}

fn suggested(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}
