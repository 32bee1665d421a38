//! Looks now and then whether both ends still are what the stream rests on.
//!
//! PostgreSQL 18 streams nothing, without an error, when the publication is gone, and an index that
//! was made anew takes changes as if nothing were missing. What is found here ends the attempt
//! before more is confirmed.

use std::time::Duration;

use tokio::time::timeout;

use super::{Failure, plan::publishes, tail::Tail};
use crate::{postgres::catalog, stop::Stop};

const INTERVAL: Duration = Duration::from_secs(5);

/// Runs until something is not as it was.
pub(super) async fn watch(tail: &Tail) -> Failure {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Err(failure) = look(tail).await {
            return failure;
        }
    }
}

async fn look(tail: &Tail) -> Result<(), Failure> {
    let look = tail.table.look().await;
    let session = tail.table.session();
    let asked = catalog::publication(
        &session.client,
        tail.table.server(),
        &tail.publication,
        &look.table,
    );
    // The session that rows are read again through: were it dead without a word, they would be
    // waited for without end.
    let limit = session.silence_max();
    let found = timeout(limit, asked)
        .await
        .map_err(|_| Failure::Heals(format!("PostgreSQL: no answer within {limit:?}")))??;
    publishes(found.as_ref(), &tail.publication)?;
    match tail.index.look().await {
        Ok(Some(found)) if found.uuid == tail.index_uuid => Ok(found.check_writes()?),
        Ok(found) => Err(replaced(tail, found.is_some()).into()),
        // The lanes meet the same trouble, and wait.
        Err(error) if error.heals() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn replaced(tail: &Tail, other: bool) -> Stop {
    let state = if other {
        "another one of the same name"
    } else {
        "gone"
    };
    Stop::IndexReplaced {
        index: tail.index.name().to_owned(),
        state: state.to_owned(),
    }
}
