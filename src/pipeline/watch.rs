//! Looks now and then whether both ends still are what the stream rests on.
//!
//! PostgreSQL 18 streams nothing, without an error, when the publication is gone; no version tells of
//! a partition that is attached, detached or truncated by itself; and an index that was made anew
//! takes changes as if nothing were missing. What is found here ends the attempt before more is
//! confirmed; what a person need not mend, the next attempt makes good by reading the table anew.

use std::time::Duration;

use tokio::time::timeout;

use super::{Failure, plan::publishes, prepare::unseen, tail::Tail};
use crate::{
    postgres::{catalog, coverage},
    stop::Stop,
};

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
    covered(tail, look.table.oid).await?;
    match tail.index.look().await {
        Ok(Some(found)) if found.uuid == tail.index_uuid => Ok(found.check_writes()?),
        Ok(found) => Err(replaced(tail, found.is_some()).into()),
        // The lanes meet the same trouble, and wait.
        Err(error) if error.heals() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether all that happens to the table's rows is still told.
async fn covered(tail: &Tail, table: u32) -> Result<(), Failure> {
    let client = tail.table.client();
    let now = coverage::look(client, &tail.publication, table).await?;
    let known = tail.coverage.borrow().clone();
    if known == now {
        return Ok(());
    }
    if let Some(why) = unseen(client, Some(&known), &now).await? {
        return Err(Failure::Heals(why));
    }
    tail.coverage.send_replace(now);
    Ok(())
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
