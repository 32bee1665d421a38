//! The slot: held by another, not to be had, kept through a long pause, or robbed of its WAL.

use std::time::Duration;

use crate::{
    rebuild, run,
    support::{Server, Truth, Workload, World, assert_equal, in_world_with_servers, wait_until},
};

/// Memory that a run may have beyond what it had, with a backlog that it cannot deliver, in kB: its
/// bounds and what they cost around them, far below the backlog.
const MEMORY_KB_MORE: u64 = 100_000;

#[test]
fn a_slot_that_a_dead_peer_still_holds_is_waited_for() {
    in_world_with_servers(8, async |world, _| {
        let workload = Workload::new(world, 300).await;
        workload.fill(world).await;
        let mut first = world.run();
        world.caught_up(&mut first).await;
        // Its host is gone: PostgreSQL has noticed it on one connection, not on the stream's.
        first.pause();
        world
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                  WHERE datname = current_database() AND backend_type = 'client backend'
                    AND pid <> pg_backend_pid()",
            )
            .await;
        world
            .execute("UPDATE integrated_records SET name = 'changed meanwhile'")
            .await;
        let mut second = run(world).start();
        second
            .until_log("the slot is found in use", |log| {
                log.contains("is active for PID")
            })
            .await;
        first.kill_9();
        world.caught_up(&mut second).await;
        assert_equal(world, &Truth::organizations()).await;
        second.stop().await;
    });
}

#[test]
fn without_a_free_slot_nothing_begins_and_it_is_said_what_to_do() {
    in_world_with_servers(8, async |world, _| {
        let others = world.connection().await;
        others
            .batch_execute(
                "SELECT pg_create_physical_replication_slot('other_' || n, false, true)
                   FROM generate_series(1, current_setting('max_replication_slots')::int
                                           - (SELECT count(*) FROM pg_replication_slots)) AS n",
            )
            .await
            .unwrap();
        let outcome = world.run().ended().await;
        assert_eq!(outcome.code, Some(12), "{}", outcome.log);
        outcome.failed_naming(&["replication slots: ", "max_replication_slots"]);
        let made = world.search.indices(&format!("{}*", world.name)).await;
        assert!(made.is_empty(), "{made:?}");

        drop(others);
        wait_until("the slots are free", async || {
            let slots = "SELECT 1 FROM pg_replication_slots WHERE slot_name LIKE 'other_%' LIMIT 1";
            world.ask::<i32>(slots).await.is_none().then_some(())
        })
        .await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        program.stop().await;
    });
}

#[test]
fn a_pause_of_elasticsearch_far_beyond_wal_sender_timeout_keeps_the_stream_and_little_memory() {
    in_world_with_servers(8, async |world, servers| {
        let database = &world.name;
        world
            .execute(&format!(
                "ALTER DATABASE {database} SET wal_sender_timeout = '3s'"
            ))
            .await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        let sender = walsender(world).await;
        let memory = program.memory_kb().unwrap();

        servers.pause(Server::Elasticsearch).await;
        // 60 MB, many times what may wait between the two ends.
        world
            .execute(
                "INSERT INTO integrated_records (hk, name, description)
                 SELECT 'large-' || n, 'large', repeat(md5(n::text), 3000)
                   FROM generate_series(1, 600) AS n",
            )
            .await;
        let mut most = memory;
        for _ in 0..24 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            most = most.max(program.memory_kb().unwrap());
        }
        servers.resume(Server::Elasticsearch).await;
        assert!(
            most < memory + MEMORY_KB_MORE,
            "{memory} kB, then {most} kB"
        );
        world.caught_up(&mut program).await;
        assert_eq!(walsender(world).await, sender, "the stream was broken");
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

#[test]
fn a_slot_whose_wal_was_removed_is_a_stop_and_a_new_index_is_the_way_out() {
    in_world_with_servers(8, async |world, servers| {
        let workload = Workload::new(world, 300).await;
        workload.fill(world).await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        world.alter_system("max_slot_wal_keep_size", "64MB").await;
        servers.pause(Server::Elasticsearch).await;
        for _ in 0..3 {
            write_wal(world).await;
        }
        program
            .until_log("it warns", |log| log.contains("keeps more than half"))
            .await;
        let slot = world.slot();
        let status =
            format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{slot}'");
        wait_until("the slot's WAL is removed", async || {
            write_wal(world).await;
            world.execute("CHECKPOINT").await;
            (world.ask::<String>(&status).await.as_deref() == Some("lost")).then_some(())
        })
        .await;
        servers.resume(Server::Elasticsearch).await;
        let outcome = program.ended().await;
        assert_eq!(outcome.code, Some(20), "{}", outcome.log);
        outcome.failed_naming(&[&slot, "max_slot_wal_keep_size", "sync-es rebuild"]);
        rebuild(world).await;
    });
}

/// Changes that the slot has yet to stream, and the rest of a segment of 16 MB.
async fn write_wal(world: &World) {
    world
        .execute("UPDATE integrated_records SET name = name || '.'")
        .await;
    world.execute("SELECT pg_switch_wal()").await;
}

/// The process that streams from the world's slot.
async fn walsender(world: &World) -> i32 {
    let slot = world.slot();
    world
        .ask(&format!(
            "SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{slot}'"
        ))
        .await
        .expect("the slot is streamed from")
}
