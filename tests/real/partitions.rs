//! Rows come and go with partitions, and PostgreSQL streams nothing of it. The alias equals the table
//! all the same.

use crate::support::{Invocation, SyncEs, Truth, World, assert_equal, in_world};

/// Three partitions of 100 rows, and a table that can become a fourth.
const CREATE: &str = "CREATE TABLE parted (hk int PRIMARY KEY, note text) PARTITION BY RANGE (hk);
     CREATE TABLE parted_0 PARTITION OF parted FOR VALUES FROM (0) TO (100);
     CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (100) TO (200);
     CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (200) TO (300);
     INSERT INTO parted SELECT n, 'first' FROM generate_series(0, 299) AS n;
     CREATE TABLE beside (hk int PRIMARY KEY, note text);
     INSERT INTO beside SELECT n, 'brought' FROM generate_series(300, 399) AS n";

/// What the program says when it reads a table anew whose rows came or went unseen.
const ANEW: &str = "dropped the slot that cannot be gone on with, beginning anew";

fn truth() -> Truth {
    Truth::of(
        "parted",
        "hk",
        &[("hk", "to_jsonb(hk)"), ("note", "to_jsonb(note)")],
    )
}

async fn followed(world: &World) -> (Invocation, SyncEs) {
    world.execute(CREATE).await;
    let run = world.sync_es(&["run"]).env("POSTGRES_TABLE", "parted");
    let mut program = run.start();
    world.caught_up(&mut program).await;
    assert_equal(world, &truth()).await;
    (run, program)
}

async fn equal_then_stop(world: &World, mut program: SyncEs) -> String {
    world.caught_up(&mut program).await;
    assert_equal(world, &truth()).await;
    program.stop().await.log
}

/// The statements change rows unseen, which is noticed while the program runs.
async fn noticed_while_it_runs(world: &World, unseen: &str, why: &str) {
    let (_, mut program) = followed(world).await;
    world.execute(unseen).await;
    program
        .until_log("it has noticed", |log| {
            log.contains(ANEW) && log.contains(why)
        })
        .await;
    world
        .execute("UPDATE parted SET note = 'after' WHERE hk % 7 = 0")
        .await;
    equal_then_stop(world, program).await;
}

/// The statements change rows unseen while the program is stopped, which is noticed at its start.
async fn noticed_at_the_start(world: &World, unseen: &str, why: &str) {
    let (run, program) = followed(world).await;
    program.kill_9();
    world.execute(unseen).await;
    let log = equal_then_stop(world, run.start()).await;
    assert!(log.contains(ANEW) && log.contains(why), "{log}");
}

const ATTACH: &str = "ALTER TABLE parted ATTACH PARTITION beside FOR VALUES FROM (300) TO (400)";

#[test]
fn rows_of_a_partition_that_is_attached_come_into_the_alias() {
    in_world(async |world| {
        noticed_while_it_runs(world, ATTACH, "beside was attached with rows").await;
    });
}

#[test]
fn rows_of_a_partition_that_was_attached_meanwhile_come_into_the_alias() {
    in_world(async |world| {
        noticed_at_the_start(world, ATTACH, "beside was attached with rows").await;
    });
}

/// With all its rows written by the transaction that makes and attaches it.
#[test]
fn rows_that_a_new_partition_brings_with_it_come_into_the_alias() {
    in_world(async |world| {
        let unseen = "BEGIN; CREATE TABLE loaded (LIKE parted INCLUDING ALL);
             INSERT INTO loaded SELECT n, 'loaded' FROM generate_series(400, 420) AS n;
             ALTER TABLE parted ATTACH PARTITION loaded FOR VALUES FROM (400) TO (500); COMMIT";
        noticed_while_it_runs(world, unseen, "loaded was attached with rows").await;
    });
}

#[test]
fn rows_of_a_partition_that_is_detached_leave_the_alias() {
    in_world(async |world| {
        let unseen = "ALTER TABLE parted DETACH PARTITION parted_1";
        noticed_while_it_runs(world, unseen, "parted_1 was detached").await;
    });
}

#[test]
fn rows_of_a_partition_that_was_dropped_meanwhile_leave_the_alias() {
    in_world(async |world| {
        noticed_at_the_start(
            world,
            "DROP TABLE parted_1",
            "parted_1 was detached or dropped",
        )
        .await;
    });
}

#[test]
fn a_partition_that_was_detached_changed_and_attached_again_is_noticed() {
    in_world(async |world| {
        let unseen = "ALTER TABLE parted DETACH PARTITION parted_2;
             UPDATE parted_2 SET note = 'alone'; DELETE FROM parted_2 WHERE hk % 2 = 0;
             ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (200) TO (300)";
        noticed_at_the_start(world, unseen, "parted_2 was detached and attached again").await;
    });
}

#[test]
fn rows_of_a_partition_that_is_truncated_by_itself_leave_the_alias() {
    in_world(async |world| {
        let unseen = "TRUNCATE parted_0; INSERT INTO parted VALUES (5, 'again')";
        noticed_while_it_runs(world, unseen, "parted_0 is in another file").await;
    });
}

/// As is done every month: with the usual statements, through privileges and replica identity, with
/// rows at once, with partitions below it; beside an attached one that is empty.
#[test]
fn a_partition_that_is_made_in_its_place_is_followed_without_more_ado() {
    in_world(async |world| {
        let (run, mut program) = followed(world).await;
        world
            .execute(
                "CREATE TABLE parted_4 PARTITION OF parted FOR VALUES FROM (400) TO (500);
                 GRANT SELECT ON parted_4 TO PUBLIC;
                 INSERT INTO parted SELECT n, 'new' FROM generate_series(400, 499) AS n;
                 BEGIN;
                 CREATE TABLE parted_5 PARTITION OF parted FOR VALUES FROM (500) TO (600);
                 INSERT INTO parted SELECT n, 'same transaction' FROM generate_series(500, 599) AS n;
                 COMMIT;
                 BEGIN; CREATE TABLE parted_6 (LIKE parted INCLUDING ALL);
                 ALTER TABLE parted ATTACH PARTITION parted_6 FOR VALUES FROM (600) TO (700); COMMIT;
                 INSERT INTO parted SELECT n, 'attached' FROM generate_series(600, 699) AS n;
                 CREATE TABLE parted_7 PARTITION OF parted FOR VALUES FROM (700) TO (900) PARTITION BY RANGE (hk);
                 CREATE TABLE parted_7_0 PARTITION OF parted_7 FOR VALUES FROM (700) TO (800);
                 INSERT INTO parted SELECT n, 'below' FROM generate_series(700, 799) AS n;
                 DELETE FROM parted WHERE hk IN (160, 270, 570, 710);
                 UPDATE parted SET note = 'moved', hk = hk + 150 WHERE hk IN (10, 120, 420, 560)",
            )
            .await;
        program
            .until_log("it has noticed all", |log| {
                let new = "a partition that brought no rows is new";
                log.matches(new).count() >= 5
            })
            .await;
        let log = equal_then_stop(world, program).await;
        assert!(!log.contains(ANEW), "{log}");
        world
            .execute(
                "CREATE TABLE parted_8 PARTITION OF parted FOR VALUES FROM (900) TO (950);
                 INSERT INTO parted SELECT n, 'while it was stopped' FROM generate_series(900, 949) AS n",
            )
            .await;
        for _ in 0..2 {
            let log = equal_then_stop(world, run.start()).await;
            assert!(!log.contains(ANEW), "{log}");
        }
    });
}

#[test]
fn rows_that_move_between_partitions_keep_their_documents() {
    in_world(async |world| {
        let (_, program) = followed(world).await;
        world
            .execute(
                "DELETE FROM parted WHERE hk BETWEEN 100 AND 149;
                 UPDATE parted SET hk = 100 + hk, note = 'up' WHERE hk < 50;
                 BEGIN;
                 UPDATE parted SET hk = 0 WHERE hk = 100;
                 UPDATE parted SET hk = 100 WHERE hk = 200;
                 UPDATE parted SET hk = 200, note = 'round' WHERE hk = 0;
                 COMMIT",
            )
            .await;
        equal_then_stop(world, program).await;
    });
}
