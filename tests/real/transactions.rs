//! Transactions of a kind that PostgreSQL, the protocol or memory could trip over.

use std::time::Duration;

use crate::support::{SyncEs, Truth, World, assert_equal, in_world, wait_until_within};

/// Memory of a build without optimisation, with a transaction of any size.
const MEMORY_KB: u64 = 128 * 1024;

/// Executes the statements beside the program, and waits until it has followed; returns the most memory
/// that it took meanwhile.
async fn followed(world: &World, program: &mut SyncEs, statements: &str) -> u64 {
    world.execute(statements).await;
    let lsn: i64 = world
        .ask("SELECT (pg_logical_emit_message(true, 'sync-es-test', '') - '0/0')::bigint")
        .await
        .unwrap();
    let mut most = 0;
    wait_until_within(
        Duration::from_mins(5),
        "everything is confirmed",
        async || {
            most = most.max(program.memory_kb().expect("the program runs"));
            let confirmed = world.confirmed().await?;
            (confirmed >= u64::try_from(lsn).unwrap()).then_some(())
        },
    )
    .await;
    most
}

#[test]
fn memory_does_not_grow_with_a_transaction() {
    in_world(async |world| {
        let mut program = world.run();
        world.live(&mut program).await;
        // 150 MB of rows in one transaction, and then each of them once more.
        let insert = "BEGIN;
            INSERT INTO integrated_records (hk, name, description)
            SELECT 'row-' || n, 'n', repeat(md5(n::text), 100) FROM generate_series(1, 30000) AS n;
            UPDATE integrated_records SET description = 'short';
            COMMIT";
        let most = followed(world, &mut program, insert).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
        assert!(most < MEMORY_KB, "{most} kB of memory");
    });
}

#[test]
fn what_was_rolled_back_to_a_savepoint_never_shows_even_when_the_transaction_is_spilled_to_disk() {
    in_world(async |world| {
        let name = &world.name;
        world
            .execute(&format!(
                "ALTER DATABASE {name} SET logical_decoding_work_mem = '64kB'"
            ))
            .await;
        let mut program = world.run();
        world.live(&mut program).await;
        let statements = "BEGIN;
            INSERT INTO integrated_records (hk, name) SELECT 'kept-' || n, repeat('x', 200) FROM generate_series(1, 2000) AS n;
            SAVEPOINT a;
            UPDATE integrated_records SET name = 'undone';
            SAVEPOINT b;
            INSERT INTO integrated_records (hk, name) SELECT 'undone-' || n, repeat('x', 200) FROM generate_series(1, 2000) AS n;
            RELEASE SAVEPOINT b;
            ROLLBACK TO SAVEPOINT a;
            UPDATE integrated_records SET legal_name = 'kept' WHERE hk LIKE 'kept-1%';
            SAVEPOINT c;
            DELETE FROM integrated_records WHERE hk LIKE 'kept-2%';
            RELEASE SAVEPOINT c;
            COMMIT;
            BEGIN;
            DELETE FROM integrated_records;
            ROLLBACK";
        followed(world, &mut program, statements).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}
