//! What somebody alters under the running program: its publication, the replica identity, the table
//! while it lags behind. It goes on rightly, or stops and names what is wrong.

use std::time::Duration;

use crate::support::{Invocation, SyncEs, Truth, World, assert_equal, in_world};

const ANEW: &str = "dropped the slot that cannot be gone on with, beginning anew";

/// How soon a loss that nobody tells of must be noticed.
const SOON: Duration = Duration::from_secs(20);

/// A table of 30 rows with a second unique index, followed.
async fn followed(world: &World) -> (Invocation, SyncEs) {
    world
        .execute(
            "CREATE TABLE altered (hk text PRIMARY KEY, n int NOT NULL UNIQUE, note text, large text);
             ALTER TABLE altered ALTER large SET STORAGE EXTERNAL;
             INSERT INTO altered SELECT 'key' || n, n, 'first', repeat(md5(n::text), 100) FROM generate_series(1, 30) AS n",
        )
        .await;
    let run = world
        .sync_es(&["run"])
        .env("POSTGRES_TABLE", "altered")
        .env("SYNC_ES_PUBLICATION", "published");
    let mut program = run.start();
    world.caught_up(&mut program).await;
    (run, program)
}

fn truth_of(query: &str, further: &[(&str, &str)]) -> Truth {
    let fields = [
        &[
            ("hk", "to_jsonb(hk)"),
            ("n", "to_jsonb(n)"),
            ("note", "to_jsonb(note)"),
            ("large", "to_jsonb(large)"),
        ],
        further,
    ]
    .concat();
    Truth::of(query, "hk", &fields)
}

async fn equal_then_stop(world: &World, mut program: SyncEs, truth: &Truth) -> String {
    world.caught_up(&mut program).await;
    assert_equal(world, truth).await;
    program.stop().await.log
}

/// A publication that leaves changes out is a stop; mended, it is made good at the next start.
async fn stops_and_is_made_good(world: &World, alter: &str, mend: &str) {
    let (run, program) = followed(world).await;
    world.execute(alter).await;
    world
        .execute(
            "UPDATE altered SET note = 'unseen' WHERE n < 5; DELETE FROM altered WHERE n = 6;
             INSERT INTO altered VALUES ('new', 31, 'unseen', 'x')",
        )
        .await;
    let outcome = program.ended_within(SOON).await;
    outcome.failed_naming(&["publication", "published", "start again"]);
    assert_eq!(outcome.code, Some(30), "{}", outcome.log);
    let outcome = run.output().await;
    assert!(matches!(outcome.code, Some(12 | 30)), "{}", outcome.log);
    world.execute(mend).await;
    let log = equal_then_stop(world, run.start(), &truth_of("altered", &[])).await;
    assert!(log.contains(ANEW), "{log}");
}

#[test]
fn a_publication_without_updates_is_a_stop_that_can_be_mended() {
    in_world(async |world| {
        stops_and_is_made_good(
            world,
            "ALTER PUBLICATION published SET (publish = 'insert, delete, truncate')",
            "ALTER PUBLICATION published SET (publish = 'insert, update, delete, truncate')",
        )
        .await;
    });
}

#[test]
fn a_publication_without_the_table_is_a_stop_that_can_be_mended() {
    in_world(async |world| {
        stops_and_is_made_good(
            world,
            "ALTER PUBLICATION published DROP TABLE altered",
            "ALTER PUBLICATION published ADD TABLE altered",
        )
        .await;
    });
}

#[test]
fn a_publication_that_is_gone_is_a_stop_that_can_be_mended() {
    in_world(async |world| {
        stops_and_is_made_good(
            world,
            "DROP PUBLICATION published",
            "CREATE PUBLICATION published FOR TABLE altered WITH (publish_via_partition_root = true)",
        )
        .await;
    });
}

/// Put right again before anybody looks.
#[test]
fn a_publication_that_left_changes_out_for_a_moment_is_made_good() {
    in_world(async |world| {
        let (_, mut program) = followed(world).await;
        world
            .execute(
                "ALTER PUBLICATION published SET (publish = 'insert');
                 UPDATE altered SET note = 'unseen'; DELETE FROM altered WHERE n = 6;
                 ALTER PUBLICATION published SET (publish = 'insert, update, delete, truncate')",
            )
            .await;
        program
            .until_log("it has noticed", |log| log.contains(ANEW))
            .await;
        equal_then_stop(world, program, &truth_of("altered", &[])).await;
    });
}

#[test]
fn another_row_filter_is_followed_for_all_rows() {
    in_world(async |world| {
        let (_, mut program) = followed(world).await;
        world
            .execute("ALTER PUBLICATION published SET TABLE altered WHERE (hk > 'key2')")
            .await;
        program
            .until_log("it has noticed", |log| log.contains(ANEW))
            .await;
        world
            .execute("UPDATE altered SET note = 'later' WHERE n IN (5, 15)")
            .await;
        let truth = truth_of("altered WHERE hk > 'key2'", &[]);
        equal_then_stop(world, program, &truth).await;
    });
}

#[test]
fn another_column_list_is_followed_for_all_rows() {
    in_world(async |world| {
        let (_, mut program) = followed(world).await;
        world
            .execute("ALTER PUBLICATION published SET TABLE altered (hk, note)")
            .await;
        program
            .until_log("it has noticed", |log| log.contains(ANEW))
            .await;
        world
            .execute("UPDATE altered SET note = 'later' WHERE n IN (5, 15)")
            .await;
        let fields = [("hk", "to_jsonb(hk)"), ("note", "to_jsonb(note)")];
        let truth = Truth::of("altered", "hk", &fields);
        equal_then_stop(world, program, &truth).await;
    });
}

#[test]
fn a_partitioned_table_published_by_its_partitions_is_a_stop_that_can_be_mended() {
    in_world(async |world| {
        world
            .execute(
                "CREATE TABLE parted (hk int PRIMARY KEY, note text) PARTITION BY RANGE (hk);
                 CREATE TABLE parted_0 PARTITION OF parted FOR VALUES FROM (0) TO (100);
                 INSERT INTO parted SELECT n, 'first' FROM generate_series(0, 9) AS n",
            )
            .await;
        let run = world
            .sync_es(&["run"])
            .env("POSTGRES_TABLE", "parted")
            .env("SYNC_ES_PUBLICATION", "published");
        let mut program = run.start();
        world.caught_up(&mut program).await;
        world
            .execute(
                "ALTER PUBLICATION published SET (publish_via_partition_root = false);
                 UPDATE parted SET note = 'unseen'",
            )
            .await;
        let outcome = program.ended_within(SOON).await;
        assert_eq!(outcome.code, Some(30), "{}", outcome.log);
        world
            .execute("ALTER PUBLICATION published SET (publish_via_partition_root = true)")
            .await;
        let fields = [("hk", "to_jsonb(hk)"), ("note", "to_jsonb(note)")];
        let truth = Truth::of("parted", "hk", &fields);
        equal_then_stop(world, run.start(), &truth).await;
    });
}

#[test]
fn another_replica_identity_is_followed_as_long_as_it_tells_the_key() {
    in_world(async |world| {
        let (_, program) = followed(world).await;
        for identity in ["FULL", "DEFAULT", "FULL", "USING INDEX altered_pkey"] {
            world
                .execute(&format!(
                    "UPDATE altered SET note = 'before' WHERE n % 3 = 0;
                     ALTER TABLE altered REPLICA IDENTITY {identity};
                     UPDATE altered SET note = '{identity}' WHERE n % 2 = 0;
                     UPDATE altered SET hk = hk || 'x' WHERE n = 7;
                     DELETE FROM altered WHERE n = (SELECT max(n) FROM altered)"
                ))
                .await;
        }
        equal_then_stop(world, program, &truth_of("altered", &[])).await;
    });
}

/// With an identity that leaves out the key, updates and deletes could not be told.
async fn stops_for_identity(world: &World, identity: &str, statements: &str) {
    let (run, program) = followed(world).await;
    world
        .execute(&format!(
            "ALTER TABLE altered REPLICA IDENTITY {identity}; {statements}"
        ))
        .await;
    let outcome = program.ended_within(SOON).await;
    outcome.failed_naming(&["replica identity", "hk"]);
    assert_eq!(outcome.code, Some(27), "{}", outcome.log);
    run.output().await.failed_naming(&["REPLICA IDENTITY"]);
    world
        .execute("ALTER TABLE altered REPLICA IDENTITY DEFAULT")
        .await;
    equal_then_stop(world, run.start(), &truth_of("altered", &[])).await;
}

#[test]
fn a_replica_identity_without_the_key_is_a_stop_that_can_be_mended() {
    in_world(async |world| {
        let statements =
            "UPDATE altered SET hk = 'moved' WHERE n = 3; DELETE FROM altered WHERE n = 4";
        stops_for_identity(world, "USING INDEX altered_n_key", statements).await;
    });
}

#[test]
fn no_replica_identity_is_a_stop_that_can_be_mended() {
    in_world(async |world| {
        let statements = "INSERT INTO altered VALUES ('new', 31, 'n', 'l')";
        stops_for_identity(world, "NOTHING", statements).await;
    });
}

/// What the docs say of each DDL holds for a program that lags behind it: rows that were touched
/// afterwards are as the table has them, also those of which a value is read again.
#[test]
fn a_table_altered_while_the_program_is_stopped_is_followed_from_where_it_stood() {
    in_world(async |world| {
        let (run, program) = followed(world).await;
        program.stop().await;
        world
            .execute(
                "UPDATE altered SET note = 'before' WHERE n % 2 = 0;
                 ALTER TABLE altered ADD COLUMN added text NOT NULL DEFAULT 'by default';
                 UPDATE altered SET note = 'added' WHERE n % 3 = 0;
                 ALTER TABLE altered RENAME COLUMN note TO renamed;
                 UPDATE altered SET renamed = 'renamed' WHERE n % 5 = 0;
                 ALTER TABLE altered ADD COLUMN brief int; UPDATE altered SET brief = n WHERE n % 4 = 0;
                 ALTER TABLE altered DROP COLUMN brief;
                 UPDATE altered SET renamed = 'dropped' WHERE n % 7 = 0;
                 ALTER TABLE altered ALTER added TYPE varchar(50) USING added || '!';
                 UPDATE altered SET renamed = 'touched'",
            )
            .await;
        let truth = Truth::of(
            "altered",
            "hk",
            &[
                ("hk", "to_jsonb(hk)"),
                ("n", "to_jsonb(n)"),
                ("renamed", "to_jsonb(renamed)"),
                ("added", "to_jsonb(added)"),
                ("large", "to_jsonb(large)"),
            ],
        );
        equal_then_stop(world, run.start(), &truth).await;
    });
}

/// The row that is read again has the new columns and types before a change has told of them.
#[test]
fn a_row_that_is_read_again_across_a_ddl_has_its_new_form() {
    in_world(async |world| {
        let (_, program) = followed(world).await;
        world
            .execute(
                "BEGIN;
                 UPDATE altered SET note = 'in the same' WHERE n <= 10;
                 ALTER TABLE altered RENAME COLUMN note TO renamed;
                 ALTER TABLE altered ALTER large TYPE varchar;
                 ALTER TABLE altered ADD COLUMN at timestamp DEFAULT '2026-01-02 03:04:05';
                 COMMIT;
                 UPDATE altered SET renamed = 'between' WHERE n <= 20;
                 ALTER TABLE altered ALTER at TYPE timestamptz USING at AT TIME ZONE 'Asia/Tokyo';
                 UPDATE altered SET renamed = 'touched'",
            )
            .await;
        let truth = Truth::of(
            "altered",
            "hk",
            &[
                ("hk", "to_jsonb(hk)"),
                ("n", "to_jsonb(n)"),
                ("renamed", "to_jsonb(renamed)"),
                ("large", "to_jsonb(large)"),
                (
                    "at",
                    "to_jsonb(replace(to_jsonb(at) #>> '{}', '+00:00', 'Z'))",
                ),
            ],
        );
        equal_then_stop(world, program, &truth).await;
    });
}

#[test]
fn a_column_of_a_type_that_does_not_fit_is_a_stop_and_nothing_is_written_wrong() {
    in_world(async |world| {
        let (run, program) = followed(world).await;
        program.stop().await;
        world
            .execute(
                "UPDATE altered SET note = 'before' WHERE n % 2 = 0;
                 ALTER TABLE altered ALTER n TYPE text;
                 UPDATE altered SET note = 'after'",
            )
            .await;
        let outcome = run.output().await;
        outcome.failed_naming(&["is mapped as integer", "needs text"]);
        assert_eq!(outcome.code, Some(27), "{}", outcome.log);
        assert!(world.dead_letters().await.is_empty());
    });
}

/// Kills the program while it is at the transaction, again and again.
async fn killed_within(world: &World, transaction: &str, truth: &Truth) {
    world
        .execute("INSERT INTO altered SELECT 'more' || n, 100 + n, 'first', 'l' FROM generate_series(1, 6000) AS n")
        .await;
    let run = world
        .sync_es(&["run"])
        .env("POSTGRES_TABLE", "altered")
        .env("SYNC_ES_PUBLICATION", "published");
    let mut program = run.start();
    world.caught_up(&mut program).await;
    let index = world.index();
    world.execute(transaction).await;
    for part in 1..4 {
        let before = world.search.write_attempts(&index).await;
        let deleted_before = world.search.deletes(&index).await;
        program
            .until("a part of the transaction is written", async || {
                let written = world.search.write_attempts(&index).await - before;
                let deleted = world.search.deletes(&index).await - deleted_before;
                (written + deleted > part * 300).then_some(())
            })
            .await;
        program.kill_9();
        program = run.start();
    }
    equal_then_stop(world, program, truth).await;
}

#[test]
fn a_truncate_with_rows_behind_it_survives_kills_half_way() {
    in_world(async |world| {
        let (_, program) = followed(world).await;
        program.stop().await;
        let transaction = "BEGIN; TRUNCATE altered;
             INSERT INTO altered SELECT 'more' || n, 100 + n, 'again', 'l' FROM generate_series(3000, 9000) AS n;
             COMMIT";
        killed_within(world, transaction, &truth_of("altered", &[])).await;
    });
}

#[test]
fn chains_and_cycles_of_keys_survive_kills_half_way() {
    in_world(async |world| {
        let (_, program) = followed(world).await;
        program.stop().await;
        // A chain over all keys, a cycle of three, a swap through a key that is free for a moment.
        let transaction = "BEGIN;
             UPDATE altered SET hk = 'spare' WHERE hk = 'more6000';
             DO $$ BEGIN FOR k IN REVERSE 5999..1 LOOP
                 UPDATE altered SET hk = 'more' || (k + 1), note = 'chained' WHERE hk = 'more' || k;
             END LOOP; END $$;
             UPDATE altered SET hk = 'more1' WHERE hk = 'spare';
             UPDATE altered SET hk = 'free' WHERE hk = 'key1';
             UPDATE altered SET hk = 'key1' WHERE hk = 'key2';
             UPDATE altered SET hk = 'key2' WHERE hk = 'key3';
             UPDATE altered SET hk = 'key3' WHERE hk = 'free';
             UPDATE altered SET hk = 'free' WHERE hk = 'key4';
             UPDATE altered SET hk = 'key4' WHERE hk = 'key5';
             UPDATE altered SET hk = 'key5' WHERE hk = 'free';
             COMMIT";
        killed_within(world, transaction, &truth_of("altered", &[])).await;
    });
}
