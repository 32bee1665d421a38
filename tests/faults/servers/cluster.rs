//! Three nodes: one that dies or hangs is gone round, and taken back when it answers again.

use std::time::{Duration, Instant};

use elasticsearch::http::Method;
use serde_json::{Value, json};

use crate::{
    rounds, run,
    support::{
        AckMonitor, Server, Truth, Workload, World, assert_equal, in_world_with_cluster, wait_until,
    },
};

/// For how long a node that does not answer may hold up what others could take: less than the minute
/// that a request may take.
const HELD_UP_MAX: Duration = Duration::from_secs(45);

#[test]
fn the_node_with_the_primary_dies_and_comes_back_and_nothing_is_lost() {
    in_world_with_cluster(8, async |world, servers| {
        let mut workload = Workload::new(world, 1_000).await;
        workload.rate = 100;
        workload.fill(world).await;
        let monitor = AckMonitor::start(world).await;
        let writers = workload.start(world).await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        keep_off(world, Server::Elasticsearch).await;
        for _ in 0..rounds() {
            let primary = holder_of_the_primary(world).await;
            servers.kill(primary).await;
            world.caught_up(&mut program).await;
            servers.restart(primary).await;
            green(world).await;
        }
        writers.stop().await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        monitor.finish().await;
        program.stop().await;
    });
}

#[test]
fn a_node_that_hangs_is_gone_round_and_taken_back() {
    in_world_with_cluster(8, async |world, servers| {
        let mut workload = Workload::new(world, 1_000).await;
        workload.rate = 100;
        workload.fill(world).await;
        let monitor = AckMonitor::start(world).await;
        let writers = workload.start(world).await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        // Without a shard of ours: a write waits for every copy, and that is not ours to mend.
        let idle = other_than_the_master(world).await;
        keep_off(world, idle).await;
        world.caught_up(&mut program).await;

        servers.pause(idle).await;
        let start = Instant::now();
        for _ in 0..3 {
            world.caught_up(&mut program).await;
        }
        let took = start.elapsed();
        assert!(took < HELD_UP_MAX, "held up for {took:?}");
        servers.resume(idle).await;
        let before = bulks(world, idle).await;
        wait_until("the node gets requests again", async || {
            (bulks(world, idle).await > before).then_some(())
        })
        .await;

        writers.stop().await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        monitor.finish().await;
        program.stop().await;
    });
}

/// Gives every index of the world two copies, none of them on `node`.
async fn keep_off(world: &World, node: Server) {
    let path = format!("/{}*/_settings?expand_wildcards=all", world.name);
    let settings = json!({
        "index.number_of_replicas": 1,
        "index.auto_expand_replicas": "false",
        "index.routing.allocation.exclude._name": node.to_string(),
    });
    world.search.must(Method::Put, &path, Some(settings)).await;
    green(world).await;
    wait_until("no shard is on the node", async || {
        let name = node.to_string();
        let here = shards(world)
            .await
            .iter()
            .any(|shard| shard["node"] == name);
        (!here).then_some(())
    })
    .await;
}

async fn green(world: &World) {
    let path = format!(
        "/_cluster/health/{}*?expand_wildcards=all&wait_for_status=green&wait_for_no_relocating_shards=true&timeout=5s",
        world.name
    );
    wait_until("the cluster is green", async || {
        let (status, _) = world.search.ask(Method::Get, &path, None).await;
        (status == 200).then_some(())
    })
    .await;
}

async fn holder_of_the_primary(world: &World) -> Server {
    let shards = shards(world).await;
    let primary = shards
        .iter()
        .find(|shard| shard["index"] == world.index() && shard["prirep"] == "p");
    node(primary.unwrap()["node"].as_str().unwrap())
}

async fn shards(world: &World) -> Vec<Value> {
    let path = format!("/_cat/shards/{}*?format=json", world.name);
    let shards = world.search.must(Method::Get, &path, None).await;
    shards.as_array().unwrap().clone()
}

/// A node that the tests' own client does not speak to, and that is not the master.
async fn other_than_the_master(world: &World) -> Server {
    let path = "/_cat/master?format=json";
    let master = world.search.must(Method::Get, path, None).await;
    if master[0]["node"] == "elasticsearch-2" {
        Server::Node(3)
    } else {
        Server::Node(2)
    }
}

/// Bulk requests that a node has taken from clients.
async fn bulks(world: &World, node: Server) -> u64 {
    let path = format!("/_nodes/{node}/stats/http");
    let stats = world.search.must(Method::Get, &path, None).await;
    let nodes = stats["nodes"].as_object().unwrap();
    let routes = nodes.values().next().map(|node| &node["http"]["routes"]);
    routes.map_or(0, |routes| {
        routes["/{index}/_bulk"]["requests"]["count"]
            .as_u64()
            .unwrap_or(0)
    })
}

fn node(name: &str) -> Server {
    match name {
        "elasticsearch" => Server::Elasticsearch,
        "elasticsearch-2" => Server::Node(2),
        _ => Server::Node(3),
    }
}
