//! Schedules that once hung the program, stopped it or lost a change: each stays proven.

use std::time::Duration;

use crate::{
    snapshot::add_rows,
    support::{Proxy, Truth, World, assert_equal, in_world, in_world_of, wait_until},
};

/// A table of its own, followed from its snapshot on; afterwards it equals the index.
async fn followed(world: &World, table: &str, create: &str, statements: &str, truth: &Truth) {
    world.execute(create).await;
    let run = world
        .sync_es(&["run"])
        .env("POSTGRES_TABLE", table)
        .env("POSTGRES_KEY_COLUMN", "hk");
    let mut program = run.start();
    world.caught_up(&mut program).await;
    world.execute(statements).await;
    world.caught_up(&mut program).await;
    assert_equal(world, truth).await;
    program.stop().await;
}

/// `character` as a name in SQL is one character long: a cast to it would cut the key, and the row
/// would not be found when it is read again.
#[test]
fn a_padded_key_is_found_when_its_row_is_read_again() {
    in_world(async |world| {
        let create = "CREATE TABLE coded (hk char(8) PRIMARY KEY, note text, large text);
             ALTER TABLE coded ALTER large SET STORAGE EXTERNAL;
             INSERT INTO coded SELECT 'key' || n, 'before', repeat('x', 5000) FROM generate_series(1, 30) AS n";
        let truth = Truth::of(
            "coded",
            "rpad(hk::text, 8)",
            &[
                ("hk", "to_jsonb(hk)"),
                ("note", "to_jsonb(note)"),
                ("large", "to_jsonb(large)"),
            ],
        );
        followed(
            world,
            "coded",
            create,
            "UPDATE coded SET note = 'after'",
            &truth,
        )
        .await;
    });
}

/// An update that does not touch a key which is stored out of line has it in the old tuple alone.
#[test]
fn a_key_that_is_stored_out_of_line_is_found() {
    for identity in ["DEFAULT", "FULL"] {
        in_world(async |world| {
            let create = format!(
                "CREATE TABLE long_keys (hk text PRIMARY KEY, note text, large text)
                     WITH (toast_tuple_target = 128);
                 ALTER TABLE long_keys ALTER hk SET STORAGE EXTERNAL, ALTER large SET STORAGE EXTERNAL,
                     REPLICA IDENTITY {identity};
                 INSERT INTO long_keys SELECT rpad('key' || n, 400, '-'), 'before', repeat('x', 5000)
                     FROM generate_series(1, 30) AS n"
            );
            let truth = Truth::of(
                "long_keys",
                "hk",
                &[
                    ("hk", "to_jsonb(hk)"),
                    ("note", "to_jsonb(note)"),
                    ("large", "to_jsonb(large)"),
                ],
            );
            let statements = "UPDATE long_keys SET note = 'after' WHERE hk LIKE 'key1%';
                 UPDATE long_keys SET hk = rpad(rtrim(hk, '-') || 'new', 400, '-') WHERE hk LIKE 'key2%';
                 DELETE FROM long_keys WHERE hk LIKE 'key3%'";
            followed(world, "long_keys", &create, statements, &truth).await;
        });
    }
}

#[test]
fn rows_from_before_and_after_a_ddl_can_stand_in_one_transaction() {
    in_world(async |world| {
        let create = "CREATE TABLE grows (hk text PRIMARY KEY, note text);
             INSERT INTO grows SELECT 'key' || n, 'before' FROM generate_series(1, 20) AS n";
        let statements = "BEGIN;
             UPDATE grows SET note = 'first' WHERE hk = 'key1';
             ALTER TABLE grows ADD COLUMN later int;
             UPDATE grows SET note = 'second', later = 2 WHERE hk = 'key2';
             INSERT INTO grows VALUES ('key21', 'new', 3);
             COMMIT";
        let truth = Truth::of(
            "grows",
            "hk",
            &[
                ("hk", "to_jsonb(hk)"),
                ("note", "to_jsonb(note)"),
                ("later", "to_jsonb(later)"),
            ],
        );
        followed(world, "grows", create, statements, &truth).await;
    });
}

/// More rows than are held at once come behind the TRUNCATE, while it still removes documents.
#[test]
fn a_truncate_is_not_held_up_by_the_rows_that_come_after_it() {
    in_world(async |world| {
        let create = "CREATE TABLE reloaded (hk text PRIMARY KEY, large text);
             ALTER TABLE reloaded ALTER large SET STORAGE EXTERNAL;
             INSERT INTO reloaded SELECT 'key' || n, repeat(md5(n::text), 120) FROM generate_series(1, 6000) AS n";
        let statements = "BEGIN; TRUNCATE reloaded;
             INSERT INTO reloaded SELECT 'key' || n, repeat(md5(n::text), 130) FROM generate_series(1000, 9000) AS n;
             COMMIT";
        let truth = Truth::of(
            "reloaded",
            "hk",
            &[("hk", "to_jsonb(hk)"), ("large", "to_jsonb(large)")],
        );
        followed(world, "reloaded", create, statements, &truth).await;
    });
}

/// The slot waits for a transaction that waits for a lock: were the lock ours, all would wait for
/// ever, and every reader of the table behind them.
#[test]
fn an_alter_table_during_the_slots_creation_is_let_through() {
    in_world_of(16, async |world| {
        add_rows(world, 50).await;
        let open = world.connection().await;
        open.batch_execute("BEGIN; SELECT txid_current()")
            .await
            .unwrap();
        let mut program = world.run();
        program
            .until("the slot is being made", async || {
                let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE_REPLICATION_SLOT%' AND state = 'active'
                     AND datname = current_database()";
                world.ask::<i64>(sql).await.filter(|count| *count > 0)
            })
            .await;
        let altering = world.connection().await;
        let altered = tokio::spawn(async move {
            altering
                .batch_execute("ALTER TABLE integrated_records ADD COLUMN note text DEFAULT 'x'")
                .await
                .unwrap();
        });
        tokio::time::timeout(Duration::from_secs(20), altered)
            .await
            .expect("ALTER TABLE gets its lock")
            .unwrap();
        open.batch_execute("COMMIT").await.unwrap();
        world.caught_up(&mut program).await;
        assert_equal(
            world,
            &Truth::organizations_with(&[("note", "to_jsonb(note)")]),
        )
        .await;
        program.stop().await;
    });
}

#[test]
fn sigterm_ends_it_while_elasticsearch_takes_nothing() {
    in_world_of(16, async |world| {
        add_rows(world, 2_000).await;
        let proxy = Proxy::start(world).await;
        proxy.refuse_bulks(1_000_000);
        let mut program = world.sync_es(&["run"]).through(&proxy).start();
        program
            .until_log("it cannot send", |line| {
                line.contains("sending again what failed")
            })
            .await;
        program.terminate();
        program
            .ended_within(Duration::from_secs(35))
            .await
            .succeeded();
        let mut program = world.run();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

/// What a one-shot run was refused before it was killed is still refused when it ends.
#[test]
fn a_refusal_is_not_forgotten_by_a_run_that_was_killed_after_it() {
    in_world_of(16, async |world| {
        add_rows(world, 4_000).await;
        world
            .execute(
                "UPDATE integrated_records SET hk = ' ' || repeat('k', 600) WHERE hk = 'row-1'",
            )
            .await;
        let index = world.index();
        let run = world.sync_es(&["run", "--snapshot-only"]);
        let mut program = run.start();
        program
            .until("the refused row has been met and more is in", async || {
                world
                    .search
                    .count(&index)
                    .await
                    .filter(|count| *count >= 1_000)
            })
            .await;
        program.kill_9();
        let outcome = run.output().await;
        assert_eq!(outcome.code, Some(3), "{}", outcome.log);
    });
}

/// An INSERT that waits for the delete of its key has written its row already: its record is below the
/// delete's in the log, and its commit above. A version made of a change's own LSN would lose it.
#[test]
fn an_insert_that_waited_for_the_delete_of_its_key_is_the_later_one() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        for number in 1..=20 {
            let (one, other) = (world.connection().await, world.connection().await);
            let begin = format!(
                "BEGIN; UPDATE integrated_records SET name = 'locked' WHERE hk = 'row-{number}'"
            );
            one.batch_execute(&begin).await.unwrap();
            let delete = format!("DELETE FROM integrated_records WHERE hk = 'row-{number}'");
            // Deleted, so that the insert waits; deleted once more, so that there is a record above its own.
            one.batch_execute(&format!(
                "{delete}; INSERT INTO integrated_records (hk) VALUES ('row-{number}')"
            ))
            .await
            .unwrap();
            let insert = format!(
                "INSERT INTO integrated_records (hk, name) VALUES ('row-{number}', 'again')"
            );
            let inserting =
                tokio::spawn(async move { other.batch_execute(&insert).await.unwrap() });
            let waits = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'transactionid' AND datname = current_database()";
            wait_until("the insert waits", async || world.ask::<i32>(waits).await).await;
            one.batch_execute(&format!("{delete}; COMMIT"))
                .await
                .unwrap();
            inserting.await.unwrap();
        }
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        assert_eq!(world.search.count(world.alias()).await, Some(20));
        program.stop().await;
    });
}
