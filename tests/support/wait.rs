//! Tests wait for facts, never for time to pass: a slow machine makes a test slow, not red.

use std::{
    panic::Location,
    time::{Duration, Instant},
};

/// How long a fact may take before the test fails: far above what it takes on a loaded machine, for
/// what is wrong stays wrong.
pub(crate) const DEADLINE: Duration = Duration::from_mins(4);

/// Between two looks at a fact.
const PAUSE: Duration = Duration::from_millis(40);

/// Asks until there is an answer, for at most [`DEADLINE`].
#[track_caller]
pub(crate) fn wait_until<T>(
    what: &str,
    fact: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    wait_until_within(DEADLINE, what, fact)
}

/// Asks until there is an answer; fails the test, naming `what` and the caller, at the deadline.
#[track_caller]
pub(crate) fn wait_until_within<T>(
    deadline: Duration,
    what: &str,
    mut fact: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let start = Instant::now();
        loop {
            if let Some(answer) = fact().await {
                return answer;
            }
            assert!(
                start.elapsed() < deadline,
                "{caller}: waited {deadline:?} in vain until {what}"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }
}
