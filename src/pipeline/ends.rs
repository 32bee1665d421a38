//! Looks now and then whether both ends still are what the stream rests on.
//!
//! PostgreSQL 18 streams nothing, without an error, when the publication is gone; no version tells of
//! a partition that is attached, detached or truncated by itself; and an index that was made anew
//! takes changes as if nothing were missing. What is found here ends the attempt; the index is also
//! looked at before each confirmation (`keeper.rs`). Unless a person has to mend something, the next
//! attempt reads the table anew.

use std::time::Duration;

use tokio::time::timeout;

use super::{Failure, generation::stay, plan::publishes, prepare::unseen, tail::Tail};
use crate::{
    elasticsearch::alias_targets,
    postgres::{catalog, coverage},
};

const INTERVAL: Duration = Duration::from_secs(5);

/// Runs until something is not as it was.
pub(super) async fn check_ends(tail: &Tail) -> Failure {
    let mut serving = false;
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Err(failure) = look(tail, &mut serving).await {
            return failure;
        }
    }
}

async fn look(tail: &Tail, serving: &mut bool) -> Result<(), Failure> {
    // The session that rows are read again through: were it dead without a word, they would be
    // waited for without end.
    let limit = tail.table.session().silence_max();
    timeout(limit, look_at_source(tail)).await.map_err(|_| {
        Failure::Heals(format!(
            "looking at the table and its publication: not done within {limit:?}"
        ))
    })??;
    let looked = async {
        tail.target.check().await?;
        look_at_alias(tail, serving).await
    };
    let meter = tail.writer.meter();
    match looked.await {
        // The lanes meet the same trouble, and wait.
        Err(Failure::Heals(trouble)) => meter.index_seen(Some(&trouble)),
        other => {
            other?;
            meter.index_seen(None);
        }
    }
    if let Err(error) = tail.writer.aside().look_again().await {
        tracing::debug!(%error, "looking whether somebody has dealt with dead letters");
    }
    Ok(())
}

/// Whether the publication still tells of the table. Waiting for the look can take for ever too: its lock
/// is held while the look is renewed, through the same session and then in the mapping.
async fn look_at_source(tail: &Tail) -> Result<(), Failure> {
    let look = tail.table.look().await;
    let found = catalog::publication(
        tail.table.client(),
        tail.table.server(),
        &tail.publication,
        &look.table,
    );
    publishes(found.await?.as_ref(), &tail.publication)?;
    covered(tail, look.table.oid).await
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

/// A rebuild can have put the alias on another generation, which is gone on with. Somebody may serve
/// searches from elsewhere for a while, and the index goes on being written; but it must not go unnoticed
/// that searches do not see it.
async fn look_at_alias(tail: &Tail, serving: &mut bool) -> Result<(), Failure> {
    let targets = alias_targets(&tail.client, &tail.alias).await?;
    let index = tail.target.index.name();
    stay(&tail.client, &targets, index, &tail.role).await?;
    let served = *serving;
    *serving = targets == [index];
    if served && !*serving {
        tracing::warn!(
            alias = tail.alias,
            ?targets,
            index,
            "the alias was moved away: changes still go into the index, and searches do not see them; the next start or reconnection points it back"
        );
    }
    Ok(())
}
