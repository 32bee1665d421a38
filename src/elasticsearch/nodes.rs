//! Which address gets the next request? Round robin over those that answer; one that does not is
//! left alone for a while that doubles with each failure, and is then tried by one request first.
//! Pure: time is an argument.

use std::time::{Duration, Instant};

/// How long a node is left alone after its first failure, and at most.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);

/// The health of each address, by its place in the list of addresses.
#[derive(Debug)]
pub(super) struct Nodes {
    health: Vec<Health>,
    next: usize,
}

#[derive(Debug, Clone, Default)]
struct Health {
    /// Failures since the last answer.
    failures: u32,
    /// The last of them, and until when the node is left alone since.
    failed_at: Option<Instant>,
    resting_until: Option<Instant>,
    /// It has answered since its last failure.
    proven: bool,
}

/// The node that a request goes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pick {
    pub(super) node: usize,
    /// When it was picked.
    pub(super) at: Instant,
    /// Nothing says that it can be reached: see whether it says anything at all before a request's
    /// whole time is spent on it.
    pub(super) unproven: bool,
}

impl Nodes {
    /// As many addresses, of which nothing is known.
    pub(super) fn new(count: usize) -> Self {
        Self {
            health: vec![Health::default(); count],
            next: 0,
        }
    }

    /// The next node in turn that is not resting; if all are, the one whose rest ends first.
    pub(super) fn pick(&mut self, now: Instant) -> Pick {
        let count = self.health.len();
        let in_turn = (0..count).map(|step| (self.next + step) % count);
        let node = in_turn
            .min_by_key(|&node| self.health[node].resting_until.filter(|&until| until > now))
            .unwrap_or_default();
        self.next = (node + 1) % count;
        let health = &mut self.health[node];
        if health.resting_until.is_some() {
            // Others leave it alone until this request knows more.
            health.resting_until = Some(now + rest(health.failures));
        }
        Pick {
            node,
            at: now,
            unproven: !health.proven,
        }
    }

    /// The node gave an answer, whatever it said.
    pub(super) fn answered(&mut self, node: usize) {
        self.health[node] = Health {
            proven: true,
            ..Health::default()
        };
    }

    /// The node gave no answer. Requests that were under way together count as one failure.
    pub(super) fn failed(&mut self, pick: &Pick, now: Instant) {
        let health = &mut self.health[pick.node];
        if health
            .failed_at
            .is_some_and(|failed_at| failed_at > pick.at)
        {
            return;
        }
        health.failures = health.failures.saturating_add(1);
        health.failed_at = Some(now);
        health.resting_until = Some(now + rest(health.failures));
        health.proven = false;
    }
}

fn rest(failures: u32) -> Duration {
    let doublings = failures
        .saturating_sub(1)
        .min(REST_MAX.as_secs().ilog2() + 1);
    (REST * 2_u32.pow(doublings)).min(REST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    fn pick(node: usize, at: Instant, unproven: bool) -> Pick {
        Pick { node, at, unproven }
    }

    #[test]
    fn requests_go_round_and_leave_out_a_node_that_failed() {
        let now = Instant::now();
        let mut nodes = Nodes::new(3);
        assert_eq!([0; 4].map(|_| nodes.pick(now).node), [0, 1, 2, 0]);
        nodes.failed(&pick(1, now, true), now);
        assert_eq!([0; 3].map(|_| nodes.pick(now).node), [2, 0, 2]);
    }

    #[test]
    fn a_failed_node_is_tried_by_one_request_after_its_rest() {
        let now = Instant::now();
        let mut nodes = Nodes::new(2);
        nodes.answered(0);
        nodes.failed(&pick(1, now, true), now);
        let later = now + REST;
        let picks = [0; 3].map(|_| nodes.pick(later));
        let tried: Vec<_> = picks.iter().filter(|pick| pick.node == 1).collect();
        assert_eq!(tried, [&pick(1, later, true)]);
        nodes.answered(1);
        let mut picked = [0; 2].map(|_| nodes.pick(later).node);
        picked.sort_unstable();
        assert_eq!(picked, [0, 1]);
    }

    #[test]
    fn a_rest_doubles_with_each_failure_up_to_its_limit() {
        let seconds = [1, 2, 3, 4, 5, 6, 7, u32::MAX].map(|failures| rest(failures).as_secs());
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn requests_that_fail_together_are_one_failure() {
        let now = Instant::now();
        let mut nodes = Nodes::new(2);
        for _ in 0..4 {
            nodes.failed(&pick(0, now, false), now + TICK);
        }
        assert_eq!(nodes.health[0].failures, 1);
        nodes.failed(&pick(0, now + REST, true), now + REST + TICK);
        assert_eq!(nodes.health[0].failures, 2);
    }

    #[test]
    fn with_all_nodes_resting_the_one_that_wakes_first_is_tried() {
        let now = Instant::now();
        let mut nodes = Nodes::new(2);
        nodes.failed(&pick(0, now, true), now + TICK);
        nodes.failed(&pick(1, now, true), now);
        assert_eq!(nodes.pick(now + TICK).node, 1);
        let mut only = Nodes::new(1);
        only.failed(&pick(0, now, true), now);
        assert_eq!(only.pick(now), pick(0, now, true));
    }
}
