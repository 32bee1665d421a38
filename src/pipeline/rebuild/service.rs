//! A run that goes on with the next generation of the index when its slot is lost, where that is wanted.

use std::time::Duration;

use super::{Goal, rebuild};
use crate::{
    delivery::OnRefusal,
    pipeline::{
        Shutdown,
        generation::rebuild_lock,
        job::{Job, LostSlot, Outcome},
        phases,
    },
    postgres::{self, lock},
    stop::Stop,
};

/// How often is looked whether the rebuild of another instance is over.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs the job until it is done, the program is asked to end, or a stop. With [`LostSlot::Rebuild`] a
/// lost slot is none: the index goes on being searched as it is, until the next one takes over.
///
/// # Errors
/// A named stop.
pub async fn run(job: &Job, mut shutdown: Shutdown) -> Result<Outcome, Stop> {
    loop {
        match Box::pin(phases::run(job, shutdown.clone())).await {
            Err(lost @ Stop::SlotLost { .. }) if job.lost_slot == LostSlot::Rebuild => {
                tracing::warn!(%lost, "filling the next generation of the index");
            }
            ended => return ended,
        }
        // What a service sets aside holds it up as little here.
        let accepts_dead_letters = matches!(job.on_refusal, OnRefusal::SetAside { .. });
        match rebuild(job, Goal::Next, accepts_dead_letters, shutdown.clone()).await {
            Ok(Outcome::Complete) => {}
            // A standby has lost the same slot.
            Err(Stop::CannotRebuild(why)) if is_under_way(job).await => {
                tracing::info!(why, "waiting for its end");
                tokio::select! {
                    () = shutdown.requested() => return Ok(Outcome::Interrupted),
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
            ended => return ended,
        }
    }
}

/// Whether another instance makes or drops generations.
async fn is_under_way(job: &Job) -> bool {
    let Ok(session) = postgres::connect(&job.postgres).await else {
        return false;
    };
    let free = lock::is_free(&session.client, &rebuild_lock(&job.names)).await;
    free.is_ok_and(|free| !free)
}
