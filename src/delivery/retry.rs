//! How long to wait before the next attempt, and when to give up. Pure.

use std::time::Duration;

/// The retry settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts after the first before a one-shot run gives up; `None` for a run that never does.
    pub attempts_max: Option<u32>,
    /// Wait before the first retry; doubled with each further one.
    pub backoff: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
}

impl Retry {
    /// The wait before retry number `attempt` (from 1), or `None` when it is one too many.
    #[must_use]
    pub fn wait(&self, attempt: u32) -> Option<Duration> {
        if self.attempts_max.is_some_and(|max| attempt > max) {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(31);
        Some(
            self.backoff
                .saturating_mul(1 << doublings)
                .min(self.backoff_max),
        )
    }

    /// Whether retry number `attempt` comes after the longest wait.
    #[must_use]
    pub fn waits_longest(&self, attempt: u32) -> bool {
        self.wait(attempt) == Some(self.backoff_max)
    }
}

/// The longest wait that an answer can ask for: beyond it we ask again.
const TOLD_MAX: Duration = Duration::from_mins(5);

/// A random part of a wait (`random` in 0..1), so that clients that failed together do not come back
/// together, but at least as long as the answer asked for (`Retry-After`).
pub(super) fn jittered(wait: Duration, random: f64, at_least: Option<Duration>) -> Duration {
    let told = at_least.unwrap_or_default().min(TOLD_MAX);
    wait.mul_f64(random).max(told)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RETRY: Retry = Retry {
        attempts_max: Some(10),
        backoff: Duration::from_secs(1),
        backoff_max: Duration::from_secs(30),
    };

    #[test]
    fn waits_double_up_to_the_maximum_and_end_after_the_last_attempt() {
        let waits: Vec<_> = (1..=11)
            .map(|attempt| RETRY.wait(attempt).map(|wait| wait.as_secs()))
            .collect();
        assert_eq!(
            waits,
            [
                Some(1),
                Some(2),
                Some(4),
                Some(8),
                Some(16),
                Some(30),
                Some(30),
                Some(30),
                Some(30),
                Some(30),
                None
            ]
        );
    }

    #[test]
    fn a_run_that_never_gives_up_waits_the_maximum_for_ever() {
        let always = Retry {
            attempts_max: None,
            ..RETRY
        };
        assert_eq!(always.wait(u32::MAX), Some(RETRY.backoff_max));
    }

    #[test]
    fn what_the_answer_asks_for_is_waited_within_reason() {
        let wait = Duration::from_secs(8);
        let told = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(jittered(wait, 0.5, None), Duration::from_secs(4));
        assert_eq!(jittered(wait, 0.5, told(2)), Duration::from_secs(4));
        assert_eq!(jittered(wait, 0.5, told(30)), Duration::from_secs(30));
        assert_eq!(jittered(wait, 0.5, told(86_400)), TOLD_MAX);
    }

    proptest! {
        #[test]
        fn chance_never_makes_a_wait_longer(attempt in 1u32..100, random in 0.0..1.0) {
            let wait = Retry { attempts_max: None, ..RETRY }.wait(attempt).unwrap();
            prop_assert!(jittered(wait, random, None) <= wait);
        }
    }
}
