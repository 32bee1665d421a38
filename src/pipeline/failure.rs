//! What ends an attempt: a trouble that heals, after which the same is tried again from the stored
//! position, or a named stop.

use crate::{
    delivery::{LaneEnded, Retry},
    document::TemplateError,
    elasticsearch,
    postgres::{self, ReplicationError, TransactionError},
    stop::Stop,
};

/// Why an attempt ended.
#[derive(Debug)]
pub enum Failure {
    /// A person has to deal with it.
    Stop(Stop),
    /// Trying again from the stored position is right.
    Heals(String),
    /// PostgreSQL refuses for want of a right: a stop at the start, waited for once at work.
    Denied(String),
    /// A lane has ended; its own result says why.
    Lane,
    /// The alias is on another generation of the index, which is to be gone on with.
    Moved(String),
}

impl Failure {
    /// Waits before retry number `attempt` (from 1) of `doing`, if the trouble is one that heals.
    ///
    /// # Errors
    /// It does not heal, or the retries are used up.
    pub(super) async fn wait(self, retry: Retry, attempt: u32, doing: &str) -> Result<(), Self> {
        let Self::Heals(trouble) = self else {
            return Err(self);
        };
        let Some(wait) = retry.wait(attempt) else {
            let cause = format!("{doing}: {trouble}");
            return Err(Stop::RetriesExhausted {
                attempts: attempt,
                cause,
            }
            .into());
        };
        tracing::warn!(
            doing,
            trouble,
            attempt,
            wait_seconds = wait.as_secs_f64(),
            "trying again in a moment"
        );
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

impl Failure {
    /// As the stop of a command that does not try again from the beginning.
    #[must_use]
    pub(super) fn into_stop(self) -> Stop {
        match self {
            Self::Stop(stop) => stop,
            Self::Denied(denied) => Stop::Postgres(denied),
            Self::Heals(trouble) => Stop::Unexpected(trouble),
            Self::Lane => Stop::Unexpected("delivery has stopped".to_owned()),
            Self::Moved(index) => Stop::Unexpected(format!("the alias was moved to {index}")),
        }
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<LaneEnded> for Failure {
    fn from(_: LaneEnded) -> Self {
        Self::Lane
    }
}

impl From<postgres::Error> for Failure {
    fn from(error: postgres::Error) -> Self {
        let text = format!("PostgreSQL: {error}");
        if error.heals() {
            Self::Heals(text)
        } else if error.is_denied() {
            Self::Denied(text)
        } else {
            Self::Stop(Stop::Postgres(text))
        }
    }
}

impl From<ReplicationError> for Failure {
    fn from(error: ReplicationError) -> Self {
        let text = format!("PostgreSQL: {error}");
        if error.heals() {
            Self::Heals(text)
        } else if error.is_denied() {
            Self::Denied(text)
        } else {
            Self::Stop(Stop::Postgres(text))
        }
    }
}

impl From<elasticsearch::Error> for Failure {
    fn from(error: elasticsearch::Error) -> Self {
        if error.heals() {
            Self::Heals(error.to_string())
        } else {
            Self::Stop(Stop::Elasticsearch(error.to_string()))
        }
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Self::Stop(Stop::Settings(error.to_string()))
    }
}

impl From<TransactionError> for Failure {
    fn from(error: TransactionError) -> Self {
        Self::Stop(Stop::Stream(error.to_string()))
    }
}

impl From<postgres::ConnectError> for Failure {
    fn from(error: postgres::ConnectError) -> Self {
        if error.heals() {
            Self::Heals(error.to_string())
        } else if error.is_denied() {
            Self::Denied(error.to_string())
        } else {
            Self::Stop(Stop::Postgres(error.to_string()))
        }
    }
}

impl From<postgres::ResolveError> for Failure {
    fn from(error: postgres::ResolveError) -> Self {
        match error {
            postgres::ResolveError::Query(source) => postgres::Error {
                doing: "reading the types of the columns".to_owned(),
                source,
            }
            .into(),
            error => Self::Stop(Stop::table_changed(error.to_string())),
        }
    }
}

impl From<elasticsearch::IndexError> for Failure {
    fn from(error: elasticsearch::IndexError) -> Self {
        let told = error.to_string();
        match error {
            _ if error.heals() => Self::Heals(told),
            elasticsearch::IndexError::NoVectors { .. } => Stop::table_changed(told).into(),
            _ => Stop::Elasticsearch(told).into(),
        }
    }
}
