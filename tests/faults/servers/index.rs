//! What an operator, a full disk or a backup does to the index while the program is at work.

use std::time::Duration;

use elasticsearch::http::Method;
use serde_json::{Value, json};

use crate::{
    rebuild, run,
    support::{
        AckMonitor, Server, Servers, Truth, Workload, World, assert_equal, in_world_with_servers,
    },
};

#[test]
fn a_restored_backup_of_everything_is_a_stop_and_a_new_index_is_the_way_out() {
    in_world_with_servers(8, async |world, servers| {
        let workload = Workload::new(world, 300).await;
        workload.fill(world).await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        back_up(world, servers).await;
        world
            .execute("UPDATE integrated_records SET name = 'after the backup'")
            .await;
        world.caught_up(&mut program).await;
        program.stop().await;
        let all = world.search.indices(&format!("{}*", world.name)).await;
        restore_over(world, &all.join(",")).await;
        let outcome = run(world).start().ended().await;
        assert_eq!(outcome.code, Some(21), "{}", outcome.log);
        outcome.failed_naming(&[&world.slot(), "sync-es rebuild"]);
        rebuild(world).await;
    });
}

#[test]
fn an_index_restored_over_itself_is_not_taken_for_the_one_it_was() {
    in_world_with_servers(8, async |world, servers| {
        let workload = Workload::new(world, 300).await;
        workload.fill(world).await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        back_up(world, servers).await;
        world
            .execute("UPDATE integrated_records SET name = 'after the backup'")
            .await;
        world.caught_up(&mut program).await;
        // The records are not restored: they say that the index has everything.
        restore_over(world, &world.index()).await;
        let outcome = program.ended().await;
        assert_eq!(outcome.code, Some(24), "{}", outcome.log);
        let outcome = run(world).start().ended().await;
        assert_eq!(outcome.code, Some(24), "at the next start\n{}", outcome.log);
        outcome.failed_naming(&[&world.index(), "restored"]);
        rebuild(world).await;
    });
}

#[test]
fn nothing_is_confirmed_any_more_once_the_index_does_not_keep_what_it_acknowledges() {
    in_world_with_servers(8, async |world, servers| {
        let mut workload = Workload::new(world, 1_000).await;
        workload.rate = 150;
        workload.fill(world).await;
        let writers = workload.start(world).await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        set(world, "index.translog.durability", json!("async")).await;
        let end: i64 = world
            .ask("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
            .await
            .unwrap();
        let outcome = program.ended().await;
        assert_eq!(outcome.code, Some(11), "{}", outcome.log);
        outcome.failed_naming(&[&world.index(), "index.translog.durability"]);
        let confirmed = world.confirmed().await.unwrap();
        assert!(
            confirmed <= u64::try_from(end).unwrap(),
            "{confirmed} is beyond {end}"
        );
        writers.stop().await;

        // What was acknowledged since may be lost by it, and must come again.
        servers.kill(Server::Elasticsearch).await;
        servers.restart(Server::Elasticsearch).await;
        set(world, "index.translog.durability", json!("request")).await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

#[test]
fn writes_do_not_follow_an_alias_that_is_moved_and_it_is_said() {
    in_world_with_servers(8, async |world, _| {
        let workload = Workload::new(world, 300).await;
        workload.fill(world).await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        let other = format!("other_{}", world.name);
        let path = format!("/{other}");
        world.search.must(Method::Put, &path, None).await;
        let move_alias = json!({ "actions": [
            { "remove": { "index": world.index(), "alias": world.alias() } },
            { "add": { "index": other, "alias": world.alias() } },
        ] });
        // The program has to have seen it where it belongs.
        tokio::time::sleep(Duration::from_secs(6)).await;
        world
            .search
            .must(Method::Post, "/_aliases", Some(move_alias))
            .await;
        world
            .execute("UPDATE integrated_records SET name = 'after the move'")
            .await;
        program
            .until_log("the move is said", |log| {
                log.contains("the alias was moved away") && log.contains(&other)
            })
            .await;
        world.caught_up(&mut program).await;
        assert_eq!(world.search.count(&other).await, Some(0));
        program.stop().await;

        let mut program = run(world).start();
        program
            .until("the alias is back", async || {
                let targets = world.search.indices(world.alias()).await;
                (targets == [world.index()]).then_some(())
            })
            .await;
        world.search.must(Method::Delete, &path, None).await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

#[test]
fn a_disk_at_its_flood_stage_is_waited_for() {
    in_world_with_servers(8, async |world, _| {
        let block = "index.blocks.read_only_allow_delete";
        trouble_passes(
            world,
            "cluster_block_exception",
            async || set(world, block, json!(true)).await,
            async || set(world, block, Value::Null).await,
        )
        .await;
    });
}

#[test]
fn an_open_circuit_breaker_is_waited_for() {
    in_world_with_servers(8, async |world, _| {
        let limit = async |value| {
            let setting = "network.breaker.inflight_requests.limit".to_owned();
            world.set_cluster([(setting, value)]).await;
        };
        trouble_passes(
            world,
            "circuit_breaking_exception",
            async || limit(json!("2kb")).await,
            async || limit(Value::Null).await,
        )
        .await;
    });
}

/// Lets a trouble come under load and pass: it is met, nothing is set aside for it, nothing is lost.
async fn trouble_passes(
    world: &World,
    named: &str,
    comes: impl AsyncFnOnce(),
    passes: impl AsyncFnOnce(),
) {
    let mut workload = Workload::new(world, 1_000).await;
    workload.rate = 150;
    workload.fill(world).await;
    let monitor = AckMonitor::start(world).await;
    let writers = workload.start(world).await;
    let mut program = run(world).start();
    world.caught_up(&mut program).await;
    comes().await;
    program
        .until_log("the trouble is met", |log| log.contains(named))
        .await;
    let more = writers.changes() + 500;
    program
        .until("the writers went on", async || {
            (writers.changes() > more).then_some(())
        })
        .await;
    passes().await;
    writers.stop().await;
    world.caught_up(&mut program).await;
    assert_eq!(world.dead_letters().await, [] as [Value; 0]);
    assert_equal(world, &Truth::organizations()).await;
    monitor.finish().await;
    program.stop().await;
}

async fn set(world: &World, setting: &str, value: Value) {
    let path = format!("/{}/_settings", world.index());
    let body = json!({ setting: value });
    world.search.must(Method::Put, &path, Some(body)).await;
}

/// Takes a snapshot of everything that the program has made.
async fn back_up(world: &World, servers: &Servers) {
    let location = servers.directory().join("elasticsearch-snapshots");
    let location = location.join(&world.name);
    let repository = json!({ "type": "fs", "settings": { "location": location } });
    let path = format!("/_snapshot/{}", world.name);
    world
        .search
        .must(Method::Put, &path, Some(repository))
        .await;
    let what = json!({ "indices": format!("{}*", world.name), "include_global_state": false });
    let path = format!("{path}/one?wait_for_completion=true");
    world.search.must(Method::Put, &path, Some(what)).await;
}

/// Puts indices back to what they were in the snapshot, as an operator does: closed meanwhile.
async fn restore_over(world: &World, indices: &str) {
    let close = format!("/{indices}/_close");
    world.search.must(Method::Post, &close, None).await;
    let repository = format!("/_snapshot/{}", world.name);
    let restore = format!("{repository}/one/_restore?wait_for_completion=true");
    let what = json!({ "indices": indices, "include_global_state": false });
    world.search.must(Method::Post, &restore, Some(what)).await;
    world.search.must(Method::Delete, &repository, None).await;
}
