//! How a loop ends: in-flight requests are waited for, and a lane's own stop goes before what the
//! loop saw of it.

use std::time::Duration;

use tokio::task::JoinSet;

use super::Failure;
use crate::{delivery::Delivery, stop::Stop};

/// How long requests in flight may take to be answered when the program is asked to end.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// How a loop ended without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// All is done.
    Complete,
    /// The program was asked to end; the position is stored.
    Interrupted,
}

/// Waits for requests in flight: as long as it takes, or a while when the program is to end.
pub(super) async fn drain(
    delivery: &Delivery,
    lanes: &mut JoinSet<Result<(), Stop>>,
    to_the_end: bool,
) -> Result<(), Failure> {
    tokio::select! {
        biased;
        Some(ended) = lanes.join_next() => Err(lane_failure(ended)),
        () = delivery.drained() => Ok(()),
        () = tokio::time::sleep(DRAIN), if !to_the_end => Ok(()),
    }
}

/// Why a lane has ended.
pub(super) fn lane_failure(ended: Result<Result<(), Stop>, tokio::task::JoinError>) -> Failure {
    match ended {
        Ok(Err(stop)) => Failure::Stop(stop),
        Ok(Ok(())) => Failure::Lane,
        Err(panicked) => Failure::Stop(Stop::Unexpected(format!("a lane ended: {panicked}"))),
    }
}

/// A loop that found its lane gone only knows that; the lane's own result, which is there a moment
/// later at most, says why.
pub(super) async fn prefer_stop(
    failure: Failure,
    lanes: &mut JoinSet<Result<(), Stop>>,
) -> Failure {
    const MOMENT: Duration = Duration::from_secs(5);
    if !matches!(failure, Failure::Lane) {
        return failure;
    }
    match tokio::time::timeout(MOMENT, lanes.join_next()).await {
        Ok(Some(ended)) => lane_failure(ended),
        _ => failure,
    }
}
