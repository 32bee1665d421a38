//! What was read again is newer than the changes that are still to come: also after a crash.

use super::{
    points::{Point, reached},
    stage::crashed,
};
use crate::{
    run,
    support::{Truth, World, assert_equal, in_world_beside_others},
};

/// A row whose large value is stored out of line. Every change of it has a higher `rev`.
const CREATE: &str =
    "CREATE TABLE revised (hk text PRIMARY KEY, rev bigint NOT NULL, large text NOT NULL);
     ALTER TABLE revised ALTER large SET STORAGE EXTERNAL;
     INSERT INTO revised VALUES ('key', 0, repeat('a', 10000))";
/// The last change; all but the first come with the large value.
const LAST: i64 = 10;

fn point(name: &str) -> Point {
    reached(|_| true).find(|point| point.name == name).unwrap()
}

async fn revision(world: &World) -> Option<i64> {
    world.search.document(&world.index(), "key").await?["rev"].as_i64()
}

/// Whether the stored position is at or behind this LSN.
async fn is_behind(world: &World, lsn: &str) -> bool {
    let position = world.latest_run().await.unwrap()["acknowledged_lsn"].clone();
    let position = position.as_str().unwrap();
    let query = format!("SELECT '{position}'::pg_lsn >= '{lsn}'::pg_lsn");
    world.ask(&query).await.unwrap()
}

/// The change that lacks a value is written as the row is now, and its position is stored. The crash
/// comes before the next change is written, which came complete and with an older state.
#[test]
fn a_document_that_shows_a_later_change_does_not_go_back_after_a_crash() {
    in_world_beside_others(8, async |world| {
        world.execute(CREATE).await;
        let run = |points: &str| {
            run(world)
                .env("POSTGRES_TABLE", "revised")
                .env("ES_CLIENT_BATCH_SIZE", 1)
                .env("FAILPOINTS", points)
                .start()
        };
        let mut program = run("");
        world.caught_up(&mut program).await;
        program.stop().await;
        world.execute("UPDATE revised SET rev = 1").await;
        let behind: String = world
            .ask("SELECT pg_current_wal_insert_lsn()::text")
            .await
            .unwrap();
        for rev in 2..=LAST {
            let update = format!("UPDATE revised SET rev = {rev}, large = repeat('{rev}', 10000)");
            world.execute(&update).await;
        }
        // An idle stream stores positions too.
        while !is_behind(world, &behind).await {
            let crashing = "bulk-resolved=1*off->1*sleep(1500);position-stored=panic";
            crashed(&run(crashing).ended().await, point("position-stored"));
        }
        assert_eq!(revision(world).await, Some(LAST));
        let crashing = "bulk-resolved=2*off->panic";
        crashed(&run(crashing).ended().await, point("bulk-resolved"));
        assert_eq!(revision(world).await, Some(LAST));
        let mut program = run("");
        world.caught_up(&mut program).await;
        let columns = ["hk", "rev", "large"].map(|name| (name, format!("to_jsonb({name})")));
        let columns = columns
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        assert_equal(world, &Truth::of("revised", "hk", &columns)).await;
        program.stop().await;
    });
}
