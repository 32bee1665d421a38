//! Storms: faults drawn from a seed, several at a time, under writers that never rest. Whatever breaks,
//! no key goes back in time, nothing is confirmed before it is there, and in the end index and table
//! are equal and nothing is left behind.
//!
//! `SYNC_ES_TEST_MINUTES` goes on for so long, a new seed each time; `SYNC_ES_TEST_SEED` repeats one;
//! `SYNC_ES_TEST_PLAN` repeats a plan as it was printed; `SYNC_ES_TEST_REPORT` names a file to which
//! each storm adds a line. A storm that fails is tried again with fewer faults, and the smallest plan
//! that still fails is printed.

use std::{
    env, fs,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{plan::Plan, storm::storm};
use crate::support::in_world_with_servers;

/// Storms of a short run.
const STORMS: usize = 4;
/// Storms that are spent on making a failing plan smaller.
const TRIALS: usize = 8;

#[test]
fn no_storm_loses_anything() {
    let number = |name: &str| -> Option<u64> {
        let value = env::var(name).ok()?;
        Some(
            value
                .parse()
                .unwrap_or_else(|_| panic!("{name} is a number")),
        )
    };
    if let Ok(plan) = env::var("SYNC_ES_TEST_PLAN") {
        return weather(&serde_json::from_str(&plan).expect("SYNC_ES_TEST_PLAN is a plan"));
    }
    if let Some(seed) = number("SYNC_ES_TEST_SEED") {
        return weather(&Plan::of(seed));
    }
    let minutes = number("SYNC_ES_TEST_MINUTES").map(Duration::from_mins);
    let began = Instant::now();
    for storms in 0.. {
        if minutes.map_or(storms == STORMS, |minutes| began.elapsed() >= minutes) {
            break;
        }
        weather(&Plan::of(rand::random::<u32>().into()));
    }
}

/// Runs a plan; if it fails, fails with the smallest plan found that does.
fn weather(plan: &Plan) {
    let Err(mut panic) = try_out(plan) else {
        return;
    };
    let mut smallest = plan.clone();
    let mut candidates = smallest.smaller().into_iter();
    for _ in 0..TRIALS {
        let Some(candidate) = candidates.next() else {
            break;
        };
        if let Err(other) = try_out(&candidate) {
            panic = other;
            candidates = candidate.smaller().into_iter();
            smallest = candidate;
        }
    }
    eprintln!("the smallest plan that failed:");
    announce(&smallest);
    resume_unwind(panic);
}

fn try_out(plan: &Plan) -> std::thread::Result<()> {
    announce(plan);
    let began = Instant::now();
    let mut passed = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        in_world_with_servers(plan.dimensions, async |world, servers| {
            passed = Some(storm(world, servers, plan).await);
        });
    }));
    let seconds = began.elapsed().as_secs();
    let line = json!({ "plan": plan, "seconds": seconds, "passed": passed });
    if let Ok(report) = env::var("SYNC_ES_TEST_REPORT") {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(report)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }
    result
}

fn announce(plan: &Plan) {
    eprintln!(
        "SYNC_ES_TEST_PLAN='{}'",
        serde_json::to_string(plan).unwrap()
    );
}
