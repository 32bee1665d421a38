//! At every point where state changes hands the program crashes, stands still or meets an error, and
//! nothing is lost by it.
//!
//! Each test goes through the points that one kind of run comes by, several faults in one world: a
//! run that crashed is followed by one that crashes further on. In between and at the end a run
//! without faults makes index and table equal. `SYNC_ES_TEST_ROUNDS` repeats every test with other
//! seeds, and so with other moments.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    points::{Change, Fault, Point, Reached, reached},
    stage::{Stage, crash_at, crashed, fault_at, hits},
};
use crate::{
    rounds,
    support::{SyncEs, Truth, assert_equal, in_world_beside_others, wait_until},
};

/// Elements of an embedding: few, as it is of no concern here.
const DIMENSIONS: usize = 8;

/// What the table goes through, one after the other.
const CHANGES: [Change; 5] = [
    Change::Rows,
    Change::LargeTransaction,
    Change::Column,
    Change::Refused,
    Change::Truncate,
];

fn each_round(test: &impl AsyncFn(&mut Stage<'_>, &mut StdRng)) {
    for _ in 0..rounds() {
        in_world_beside_others(DIMENSIONS, async |world| {
            let mut stage = Stage::set(world).await;
            let mut random = StdRng::seed_from_u64(stage.seed());
            test(&mut stage, &mut random).await;
            stage.close().await;
        });
    }
}

/// Points that every kind of snapshot comes by, beside its own.
fn is_of_bulks(point: &Point) -> bool {
    point.name.starts_with("bulk-")
}

fn bulks() -> impl Iterator<Item = Point> {
    reached(|by| by == Reached::Streaming(Change::Rows)).filter(is_of_bulks)
}

#[test]
fn a_crash_at_any_point_on_the_way_to_the_stream_loses_nothing() {
    each_round(&async |stage, random| {
        for point in reached(|by| by == Reached::OnTheWay) {
            let pages = point.name == "page-handed-over";
            let passed = if pages { random.random_range(0..2) } else { 0 };
            stage.crash(point, passed, Change::Rows).await;
            if point.name == "consistent-point-stored" {
                stage.watch().await;
            }
            if pages {
                for point in bulks() {
                    let passed = random.random_range(0..3);
                    stage.crash(point, passed, Change::Rows).await;
                }
            }
        }
        stage.settle().await;
    });
}

#[test]
fn a_crash_at_any_point_of_the_stream_loses_nothing() {
    each_round(&async |stage, random| {
        stage.settle().await;
        stage.watch().await;
        for change in CHANGES {
            for point in reached(|by| by == Reached::Streaming(change)) {
                let later = match (change, point.name) {
                    (Change::Rows, _) | (_, "sweep-under-way") => random.random_range(1..5),
                    _ => 1,
                };
                stage.crash(point, 0, change).await;
                stage.crash(point, later, change).await;
            }
            stage.settle().await;
        }
    });
}

#[test]
fn a_crash_or_an_error_while_it_is_asked_to_end_loses_nothing() {
    each_round(&async |stage, _| {
        stage.settle().await;
        stage.watch().await;
        for point in reached(|by| by == Reached::AtTheEnd) {
            let program = at_work(stage, &crash_at(point, 0)).await;
            program.terminate();
            crashed(&program.ended().await, point);
            let program = at_work(stage, &format!("{}=1*return", point.name)).await;
            let log = program.stop().await.log;
            assert!(hits(&log, point) > 0, "{} was not reached", point.name);
        }
        stage.settle().await;
    });
}

/// A run that streams what the writers do.
async fn at_work(stage: &Stage<'_>, points: &str) -> SyncEs {
    let mut program = stage.traced(&["run"], points).start();
    program
        .until_log("a position is stored", |log| {
            log.contains("position-stored")
        })
        .await;
    program
}

#[test]
fn a_stall_at_every_point_changes_nothing() {
    each_round(&async |stage, random| {
        let elsewhere = |by| matches!(by, Reached::OneShot | Reached::Rebuild);
        let points: Vec<(Point, u32, String)> = all_but(elsewhere)
            // Only a run that was interrupted drops its slot.
            .filter(|point| point.name != "old-slot-dropped")
            .map(|point| {
                let milliseconds = random.random_range(300..800);
                let stall = format!("1*sleep({milliseconds})");
                (point, passed(point, random), stall)
            })
            .collect();
        with_all(stage, &points).await;
    });
}

#[test]
fn an_error_at_every_point_heals() {
    each_round(&async |stage, random| {
        // A run that is asked to end does not begin again, so those points have a test of their own.
        let elsewhere = |by| matches!(by, Reached::OneShot | Reached::AtTheEnd | Reached::Rebuild);
        let points: Vec<(Point, u32, String)> = all_but(elsewhere)
            .filter(|point| point.fault == Fault::Error)
            .map(|point| (point, passed(point, random), "1*return".to_owned()))
            .collect();
        with_all(stage, &points).await;
    });
}

/// The slot of a healing cannot be made at once: it is no reason to copy the whole table.
#[test]
fn a_healing_whose_slot_is_yet_to_be_made_stays_a_healing() {
    in_world_beside_others(DIMENSIONS, async |world| {
        let mut stage = Stage::set(world).await;
        stage.rest().await;
        let mut program = stage.armed(&["run"], "").start();
        world.caught_up(&mut program).await;
        program.stop().await;
        world.drop_slot().await;
        world
            .execute("DELETE FROM integrated_records WHERE hk LIKE '%7'")
            .await;
        let healing = |points: &str| {
            stage
                .armed(&["run"], points)
                .env("SYNC_ES_LOST_SLOT", "heal")
        };
        for point in ["intent-stored", "slot-created"] {
            let crash = healing(&format!("{point}=panic")).output().await;
            assert!(crash.code.is_none(), "{}", crash.log);
        }
        let mut program = healing("intent-stored=1*return").start();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        let log = program.log();
        assert!(log.matches("comparing the index").count() >= 2, "{log}");
        assert!(!log.contains("snapshot from the first row"), "{log}");
        program.stop().await;
    });
}

/// The table can be looked at when it is further than the stream: what that look found must be in the
/// mapping as well, for the stream then tells nothing new.
#[test]
fn a_column_added_while_the_mapping_gets_another_is_in_the_mapping_too() {
    in_world_beside_others(DIMENSIONS, async |world| {
        let mut stage = Stage::set(world).await;
        stage.rest().await;
        let mut program = stage
            .traced(&["run"], "mapping-extended=1*sleep(1500)")
            .start();
        world.live(&mut program).await;
        stage.change(Change::Column).await;
        program
            .until_log("the first column is in the mapping", |log| {
                log.contains("\"mapping-extended\"")
            })
            .await;
        stage.change(Change::Column).await;
        stage.settles(program).await;
    });
}

fn all_but(without: impl Fn(Reached) -> bool) -> impl Iterator<Item = Point> {
    reached(move |by| !without(by))
}

/// How often a point is passed before the fault; those on the way are often reached but once.
fn passed(point: Point, random: &mut StdRng) -> u32 {
    match point.reached {
        Reached::Streaming(_) => random.random_range(0..3),
        _ => 0,
    }
}

/// One run with all of these faults, from the first row to its end in order; each must be met.
async fn with_all(stage: &mut Stage<'_>, points: &[(Point, u32, String)]) {
    let armed: Vec<String> = points
        .iter()
        .map(|(point, passed, action)| fault_at(*point, *passed, action))
        .collect();
    let mut program = stage.traced(&["run"], &armed.join(";")).start();
    program
        .until_log("the slot is there to stay", |log| {
            log.contains("\"consistent-point-stored\"")
        })
        .await;
    stage.watch().await;
    stage.world.live(&mut program).await;
    for change in CHANGES {
        let due = |log: &str| {
            points.iter().all(|(point, passed, _)| {
                point.reached != Reached::Streaming(change) || hits(log, *point) > *passed as usize
            })
        };
        let what = format!("all points are reached by {change:?}");
        wait_until(&what, async || {
            assert!(program.runs(), "it ended before {what}\n{}", program.log());
            if due(&program.log()) {
                return Some(());
            }
            stage.change(change).await;
            None
        })
        .await;
    }
    let log = stage.settles(program).await;
    for (point, passed, _) in points {
        let met = hits(&log, *point) > *passed as usize;
        assert!(met, "{} was not reached", point.name);
    }
}

#[test]
fn a_crash_or_an_error_at_any_point_of_a_one_shot_run_loses_nothing() {
    in_world_beside_others(DIMENSIONS, async |world| {
        let mut stage = Stage::set(world).await;
        let mut random = StdRng::seed_from_u64(stage.seed());
        stage.rest().await;
        let run = ["run", "--snapshot-only"];
        let snapshot = |point: &Point| point.name.starts_with("snapshot-");
        let vectors = |point: &Point| point.name.starts_with("vector");
        let alias = |point: &Point| point.name.starts_with("alias-");
        let own = || reached(|by| by == Reached::OneShot);
        let shared = || reached(|by| by == Reached::OnTheWay);
        let in_order = own()
            .filter(snapshot)
            .chain(bulks())
            .chain(shared().filter(snapshot))
            .chain(shared().filter(vectors))
            .chain(shared().filter(alias))
            .chain(own().filter(|point| !snapshot(point)));
        for point in in_order {
            let crash = stage.armed(&run, &crash_at(point, 0));
            crashed(&crash.output().await, point);
        }
        stage.armed(&run, "").output().await.succeeded();
        stage.equal().await;

        world
            .execute("DELETE FROM integrated_records WHERE hk LIKE '%1%'")
            .await;
        let sweep = reached(|by| by == Reached::Streaming(Change::Truncate));
        let sweep = sweep.filter(|point| point.name == "sweep-under-way");
        for point in sweep {
            let crash = crash_at(point, random.random_range(0..10));
            crashed(&stage.armed(&run, &crash).output().await, point);
        }
        let errors: Vec<Point> = own().chain(shared().filter(snapshot)).collect();
        let errors = errors
            .into_iter()
            .filter(|point| point.fault == Fault::Error);
        let errors: Vec<String> = errors
            .map(|point| format!("{}=1*return", point.name))
            .chain(["sweep-under-way=5*off->1*return".to_owned()])
            .collect();
        let outcome = stage.armed(&run, &errors.join(";")).output().await;
        outcome.succeeded();
        for error in &errors {
            let point = error.split('=').next().unwrap();
            assert!(
                outcome.log.contains(&format!("failpoint {point}")),
                "{point}"
            );
        }
        stage.equal().await;
        assert_eq!(world.confirmed().await, None, "a one-shot run has no slot");
    });
}
