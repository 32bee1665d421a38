//! Who leads: of all instances with the same index, one writes into it, and the others stand by.

use std::time::Duration;

use super::{Failure, Shutdown, generation::writers_lock, job::Job, survey};
use crate::{
    observe,
    postgres::{Session, lock},
};

/// Between two tries to lead.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until this instance is the one that writes into the index; false when the program is asked
/// to end before. The lock is the session's: it is free again as soon as the session is gone, or
/// PostgreSQL has heard nothing of it for a while.
///
/// # Errors
/// PostgreSQL cannot be asked.
pub(super) async fn lead(
    job: &Job,
    session: &Session,
    shutdown: &mut Shutdown,
) -> Result<bool, Failure> {
    let name = writers_lock(&job.names);
    session.expire_when_silent().await?;
    let led = async {
        if lock::take(&session.client, &name).await? {
            return Ok(());
        }
        // Not only when it is wanted.
        survey::before_standing_by(job, session).await?;
        stand_by(job, session, &name, "another instance is at work").await
    };
    tokio::select! {
        biased;
        led = led => led?,
        () = shutdown.requested() => return Ok(false),
    }
    failpoint!("leader-lock-taken", Failure::Heals);
    job.meter.phase(observe::Phase::Starting);
    Ok(true)
}

/// Waits until the lock is this session's, which expires when it is silent; says `why` it is not yet.
///
/// # Errors
/// PostgreSQL cannot be asked.
pub(super) async fn stand_by(
    job: &Job,
    session: &Session,
    name: &str,
    why: &str,
) -> Result<(), Failure> {
    let mut told = false;
    while !lock::take(&session.client, name).await? {
        if !told {
            job.meter.phase(observe::Phase::Standby);
            tracing::info!(index = job.names.index, "{why}: standing by");
            told = true;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
