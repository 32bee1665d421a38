//! Tests wait for facts, never for time to pass: a slow machine makes a test slow, not red.

use std::{
    panic::Location,
    time::{Duration, Instant},
};

/// How long a fact may take before the test fails: far above what it takes on a loaded machine, for
/// what is wrong stays wrong.
pub(crate) const DEADLINE: Duration = Duration::from_mins(4);

/// Between two looks at a fact, at first and at last: what takes long is looked at less often, since
/// looks take the machine's time from what they wait for.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(150);

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
            let pause = PAUSE + start.elapsed() / 16;
            tokio::time::sleep(pause.min(PAUSE_MAX)).await;
        }
    }
}
