//! A rebuild that crashes at any point goes on, while a service follows the table and writers change it.

use super::{
    points::{Change, Point, Reached, reached},
    stage::{Stage, crash_at, crashed},
};
use crate::support::{SyncEs, World, in_world_beside_others};

/// The service follows the alias to this generation, whose slot is the only one left.
async fn goes_over(world: &World, service: &mut SyncEs, number: u32) {
    let index = format!("{}_v{number}", world.name);
    let slot = format!("{}_v{number}", world.slot());
    let slots = "SELECT string_agg(slot_name::text, ',') FROM pg_replication_slots
         WHERE database = current_database() AND slot_name NOT LIKE 'audit%'";
    service
        .until("the service has gone over", async || {
            let run = world.latest_run().await?;
            let there = run["output_es_index"] == index && run["phase"] == "stream";
            (there && world.ask::<String>(slots).await? == slot).then_some(())
        })
        .await;
    assert_eq!(world.search.indices(world.alias()).await, [index]);
}

#[test]
fn a_rebuild_that_crashes_at_any_point_goes_on_and_loses_nothing() {
    in_world_beside_others(8, async |world| {
        let mut stage = Stage::set(world).await;
        let mut service = stage.armed(&["run"], "").start();
        world.caught_up(&mut service).await;

        // The service has made it.
        let of_a_rebuild = |point: &Point| point.name != "publication-created";
        let moves = |point: &Point| point.name == "alias-moved";
        let on_the_way = || reached(|by| by == Reached::OnTheWay).filter(of_a_rebuild);
        let own = || reached(|by| by == Reached::Rebuild);
        let compared = |point: &Point| point.name == "generation-compared";
        let before = on_the_way()
            .filter(|point| !moves(point) && point.name != "alias-about-to-move")
            .chain(own().filter(compared))
            .chain(on_the_way().filter(|point| point.name == "alias-about-to-move"));
        for point in before {
            let crash = stage.armed(&["rebuild"], &crash_at(point, 0));
            crashed(&crash.output().await, point);
            assert!(service.runs(), "{}", service.log());
        }
        let behind = on_the_way()
            .filter(moves)
            .chain(own().filter(|point| !compared(point)));
        for (number, point) in (2..).zip(behind) {
            let crash = stage.armed(&["rebuild"], &crash_at(point, 0));
            crashed(&crash.output().await, point);
            goes_over(world, &mut service, number).await;
        }
        stage.change(Change::Rows).await;
        stage.rest().await;
        world.caught_up(&mut service).await;
        stage.equal().await;
        stage
            .armed(&["rebuild", "--drop"], "")
            .output()
            .await
            .succeeded();
        service.stop().await;
    });
}
