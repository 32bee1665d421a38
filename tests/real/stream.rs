//! What is committed reaches the alias, in every form that a change can have.

use std::time::Duration;

use crate::{
    snapshot::add_rows,
    support::{SyncEs, Truth, World, assert_equal, in_world, in_world_of, wait_until_within},
};

/// A running program whose snapshot of `rows` rows is in.
async fn live_with(world: &World, rows: u32) -> SyncEs {
    add_rows(world, rows).await;
    let mut program = world.run();
    world.caught_up(&mut program).await;
    program
}

async fn equal_then_stop(world: &World, mut program: SyncEs) {
    world.caught_up(&mut program).await;
    assert_equal(world, &Truth::organizations()).await;
    program.stop().await;
}

/// Runs the statements beside a live program; afterwards table and index are equal.
async fn after(world: &World, statements: &str) {
    let program = live_with(world, 20).await;
    world.execute(statements).await;
    equal_then_stop(world, program).await;
}

#[test]
fn an_insert_an_update_and_a_delete_reach_the_alias() {
    in_world(async |world| {
        let mut program = live_with(world, 3).await;
        world
            .execute(
                "INSERT INTO integrated_records (hk, name) VALUES ('new', 'inserted');
                 UPDATE integrated_records SET name = 'updated' WHERE hk = 'row-1';
                 DELETE FROM integrated_records WHERE hk = 'row-2'",
            )
            .await;
        program
            .until("the update is in the alias", async || {
                let document = world.search.document(world.alias(), "row-1").await?;
                (document["name"] == "updated").then_some(())
            })
            .await;
        equal_then_stop(world, program).await;
    });
}

#[test]
fn truncate_empties_the_index() {
    in_world(async |world| {
        let mut program = live_with(world, 500).await;
        world.execute("TRUNCATE integrated_records").await;
        world.caught_up(&mut program).await;
        assert_eq!(world.search.count(world.alias()).await, Some(0));
        equal_then_stop(world, program).await;
    });
}

#[test]
fn truncate_takes_what_came_before_it_and_leaves_what_came_after_it() {
    in_world(async |world| {
        after(
            world,
            "INSERT INTO integrated_records (hk, name) VALUES ('before', 'b');
             BEGIN;
             INSERT INTO integrated_records (hk, name) VALUES ('before in the same', 'b');
             TRUNCATE integrated_records;
             INSERT INTO integrated_records (hk, name) VALUES ('row-3', 'again'), ('after', 'a');
             COMMIT;
             UPDATE integrated_records SET name = 'once more' WHERE hk = 'after'",
        )
        .await;
    });
}

#[test]
fn a_changed_key_moves_the_document() {
    in_world(async |world| {
        after(
            world,
            "UPDATE integrated_records SET hk = 'moved' WHERE hk = 'row-1';
             BEGIN;
             UPDATE integrated_records SET hk = 'between' WHERE hk = 'row-2';
             UPDATE integrated_records SET hk = 'row-2' WHERE hk = 'row-3';
             UPDATE integrated_records SET hk = 'row-3' WHERE hk = 'between';
             COMMIT;
             BEGIN;
             DELETE FROM integrated_records WHERE hk = 'row-4';
             UPDATE integrated_records SET hk = 'row-4', name = 'five' WHERE hk = 'row-5';
             COMMIT",
        )
        .await;
    });
}

#[test]
fn several_changes_of_a_row_in_a_transaction_leave_the_last() {
    in_world(async |world| {
        after(
            world,
            "BEGIN;
             INSERT INTO integrated_records (hk, name) VALUES ('often', '1');
             UPDATE integrated_records SET name = '2' WHERE hk = 'often';
             SAVEPOINT a;
             UPDATE integrated_records SET name = 'undone' WHERE hk = 'often';
             DELETE FROM integrated_records WHERE hk = 'row-1';
             ROLLBACK TO SAVEPOINT a;
             DELETE FROM integrated_records WHERE hk = 'often';
             INSERT INTO integrated_records (hk, name) VALUES ('often', '3');
             INSERT INTO integrated_records (hk, name) VALUES ('passing', '1');
             DELETE FROM integrated_records WHERE hk = 'passing';
             UPDATE integrated_records SET name = '4' WHERE hk = 'row-2';
             DELETE FROM integrated_records WHERE hk = 'row-2';
             COMMIT;
             BEGIN;
             DELETE FROM integrated_records;
             ROLLBACK",
        )
        .await;
    });
}

/// Both an embedding and a text that are stored out of line; updates leave them alone.
async fn unchanged_values_survive(world: &World, identity: &str) {
    world
        .execute(&format!(
            "ALTER TABLE integrated_records REPLICA IDENTITY {identity};
             ALTER TABLE integrated_records ALTER embedding SET STORAGE EXTERNAL, ALTER description SET STORAGE EXTERNAL;
             INSERT INTO integrated_records (hk, name, description, embedding)
             SELECT 'big-' || n, 'n', repeat('long ' || n, 2000),
                    (SELECT array_agg(sin(n * i)::real) FROM generate_series(1, {}) AS i)
               FROM generate_series(1, 30) AS n",
            world.dimensions
        ))
        .await;
    let lines: i64 = world
        .ask("SELECT count(*) FROM integrated_records WHERE pg_column_size(embedding) > 2000")
        .await
        .unwrap();
    assert_eq!(lines, 30);
    after(
        world,
        "UPDATE integrated_records SET name = 'touched' WHERE hk < 'big-2';
         UPDATE integrated_records SET hk = 'moved-' || hk WHERE hk LIKE 'big-2%';
         BEGIN;
         UPDATE integrated_records SET name = 'once' WHERE hk = 'big-3';
         UPDATE integrated_records SET description = 'short now' WHERE hk = 'big-3';
         UPDATE integrated_records SET name = 'twice' WHERE hk = 'big-3';
         COMMIT;
         BEGIN;
         UPDATE integrated_records SET name = 'then gone' WHERE hk = 'big-4';
         DELETE FROM integrated_records WHERE hk = 'big-4';
         COMMIT;
         BEGIN;
         UPDATE integrated_records SET name = 'then moved' WHERE hk = 'big-5';
         UPDATE integrated_records SET hk = 'big-5-moved' WHERE hk = 'big-5';
         COMMIT;
         UPDATE integrated_records SET embedding = NULL WHERE hk = 'big-6';
         UPDATE integrated_records SET name = 'after NULL' WHERE hk = 'big-6'",
    )
    .await;
}

#[test]
fn an_unchanged_out_of_line_value_survives_with_replica_identity_default() {
    in_world_of(768, async |world| {
        unchanged_values_survive(world, "DEFAULT").await;
    });
}

#[test]
fn an_unchanged_out_of_line_value_survives_with_replica_identity_full() {
    in_world_of(768, async |world| {
        unchanged_values_survive(world, "FULL").await;
    });
}

#[test]
fn a_transaction_of_fifty_thousand_rows_arrives_whole() {
    in_world(async |world| {
        let mut program = live_with(world, 10).await;
        world
            .execute(
                "BEGIN;
                 INSERT INTO integrated_records (hk, name, updated_at)
                 SELECT 'huge-' || n, 'n', now() FROM generate_series(1, 30000) AS n;
                 UPDATE integrated_records SET name = name || '!' WHERE hk LIKE 'huge-%' AND length(hk) > 9;
                 DELETE FROM integrated_records WHERE hk LIKE 'huge-1%';
                 COMMIT",
            )
            .await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

#[test]
fn rows_of_a_copy_share_one_position_and_all_arrive() {
    in_world(async |world| {
        let program = live_with(world, 10).await;
        world
            .execute(
                "CREATE TABLE source AS SELECT 'copy-' || n AS hk FROM generate_series(1, 5000) AS n;
                 INSERT INTO integrated_records (hk) SELECT hk FROM source;
                 DELETE FROM integrated_records WHERE hk LIKE 'copy-%9'",
            )
            .await;
        equal_then_stop(world, program).await;
    });
}

#[test]
fn an_idle_table_does_not_hold_the_log_back_while_another_table_is_busy() {
    in_world(async |world| {
        let mut program = live_with(world, 10).await;
        world.execute("CREATE TABLE busy (filler text)").await;
        let before: i64 = world
            .ask("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
            .await
            .unwrap();
        for _ in 0..8 {
            world
                .execute("INSERT INTO busy SELECT repeat(md5(n::text), 30) FROM generate_series(1, 8000) AS n")
                .await;
        }
        let after: i64 = world
            .ask("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
            .await
            .unwrap();
        assert!(
            after - before > 32 << 20,
            "there is too little log to speak of"
        );
        let after = u64::try_from(after).unwrap();
        // Nothing happens any more in this database: only keepalives can bring the position forward.
        program
            .until("the slot has followed", async || {
                world
                    .confirmed()
                    .await
                    .filter(|confirmed| *confirmed >= after)
            })
            .await;
        program.stop().await;
    });
}

#[test]
fn a_change_is_found_through_the_alias_within_seconds_without_a_batch_to_fill() {
    in_world(async |world| {
        let mut program = live_with(world, 10).await;
        for round in 0..5 {
            let name = format!("round {round}");
            world
                .execute(&format!(
                    "UPDATE integrated_records SET name = '{name}' WHERE hk = 'row-1'"
                ))
                .await;
            wait_until_within(
                Duration::from_secs(20),
                "the change is stored",
                async || {
                    let document = world.search.document(world.alias(), "row-1").await?;
                    (document["name"] == name).then_some(())
                },
            )
            .await;
        }
        assert!(program.runs());
        program.stop().await;
    });
}
