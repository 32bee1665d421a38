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
}

#[cfg(test)]
mod tests {
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
}
