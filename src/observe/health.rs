//! Is it ready, and is it alive? Pure: facts in, reasons out.

use std::time::Duration;

use super::status::Phase;

/// No request has ended for so long, though there is something to send and nothing is waited for:
/// well above what a request may take (a minute) at every node of a cluster.
pub(super) const WEDGED_AFTER: Duration = Duration::from_mins(5);

/// What readiness depends on.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) phase: Phase,
    /// The alias points to the index, as far as we have a say.
    pub(super) caught_up: bool,
    pub(super) lag: Option<Duration>,
    pub(super) lag_target: Duration,
    /// Lanes that wait the longest time between two attempts.
    pub(super) retrying_at_most: u64,
    /// Why the index could not be looked at the last time.
    pub(super) index_trouble: Option<String>,
}

/// Why searches may not see what was committed; empty when it is ready.
pub(super) fn reasons(facts: &Facts) -> Vec<String> {
    if facts.phase != Phase::Stream {
        return vec![facts.phase.told().to_owned()];
    }
    let mut reasons = Vec::new();
    if !facts.caught_up {
        reasons.push("the alias does not point to the index yet".to_owned());
    }
    match facts.lag {
        None => reasons.push("nothing has come from PostgreSQL yet".to_owned()),
        Some(lag) if lag > facts.lag_target => reasons.push(format!(
            "the lag of {:.1} s is above the target of {} s",
            lag.as_secs_f64(),
            facts.lag_target.as_secs_f64()
        )),
        Some(_) => {}
    }
    if facts.retrying_at_most > 0 {
        reasons
            .push("Elasticsearch takes no requests: trying again at the longest wait".to_owned());
    }
    if let Some(trouble) = &facts.index_trouble {
        reasons.push(format!("the index cannot be looked at: {trouble}"));
    }
    reasons
}

/// Whether it is stuck: operations are open, no lane waits to try again, and no request has ended for
/// [`WEDGED_AFTER`]. Waiting for a server is not being stuck: a restart would not help.
pub(super) fn is_wedged(open: u64, retrying: u64, since_progress: Duration) -> bool {
    open > 0 && retrying == 0 && since_progress > WEDGED_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one condition away.
    type Spoil = fn(&mut Facts);

    fn ready() -> Facts {
        Facts {
            phase: Phase::Stream,
            caught_up: true,
            lag: Some(Duration::from_secs(30)),
            lag_target: Duration::from_secs(30),
            retrying_at_most: 0,
            index_trouble: None,
        }
    }

    #[test]
    fn each_of_the_conditions_alone_takes_readiness_away() {
        assert_eq!(reasons(&ready()), Vec::<String>::new());
        let not: [(&str, Spoil); 6] = [
            ("standing by", |facts| facts.phase = Phase::Standby),
            ("alias", |facts| facts.caught_up = false),
            ("nothing has come", |facts| facts.lag = None),
            ("30.1 s is above the target of 30 s", |facts| {
                facts.lag = Some(Duration::from_millis(30_100));
            }),
            ("longest wait", |facts| facts.retrying_at_most = 1),
            ("refused", |facts| {
                facts.index_trouble = Some("refused".to_owned());
            }),
        ];
        for (told, spoil) in not {
            let mut facts = ready();
            spoil(&mut facts);
            let reasons = reasons(&facts);
            assert!(
                reasons.len() == 1 && reasons[0].contains(told),
                "{reasons:?}"
            );
        }
    }

    #[test]
    fn only_work_that_nothing_is_waited_for_and_that_does_not_go_on_is_stuck() {
        let long = WEDGED_AFTER + Duration::from_secs(1);
        assert!(is_wedged(1, 0, long));
        assert!(!is_wedged(0, 0, long), "nothing to do");
        assert!(!is_wedged(1, 1, long), "waiting for Elasticsearch");
        assert!(!is_wedged(1, 0, WEDGED_AFTER), "a slow request");
    }
}
