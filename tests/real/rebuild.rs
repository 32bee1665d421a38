//! The next generation is filled beside the one that serves: whoever searches sees no moment of it, and
//! nothing is lost when it is killed, given up or gone back from.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use elasticsearch::http::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    heal::lose_slot,
    refusals::{POISON, with_a_mapping},
    snapshot::add_rows,
    support::{
        Invocation, Outcome, Proxy, Search, SyncEs, Truth, Workload, World, assert_equal,
        assert_tidy, in_world,
    },
};

/// Rows that nobody changes.
const STILL: u32 = 300;

/// Searches the alias without a pause, for rows that nobody changes.
struct Searcher {
    task: JoinHandle<u64>,
    stop: Arc<AtomicBool>,
}

impl Searcher {
    async fn start(world: &World) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let search = Search::connect(world.elasticsearch_url()).await;
        let path = format!("/{}/_search", world.alias());
        let ended = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let still = json!({
                "size": 0,
                "track_total_hits": true,
                "query": { "prefix": { "hk": "row-" } },
            });
            let mut searches = 0;
            while !ended.load(Ordering::Relaxed) {
                let answer = search.must(Method::Post, &path, Some(still.clone())).await;
                assert_eq!(answer["_shards"]["failed"], 0, "{answer}");
                assert_eq!(answer["hits"]["total"]["value"], STILL, "{answer}");
                searches += 1;
            }
            searches
        });
        Self { task, stop }
    }

    async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.task.await.unwrap() > 20, "hardly a search");
    }
}

fn generation(world: &World, number: u32) -> String {
    format!("{}_v{number}", world.name)
}

fn slot(world: &World, number: u32) -> String {
    match number {
        1 => world.slot(),
        later => format!("{}_v{later}", world.slot()),
    }
}

async fn rebuild(world: &World, arguments: &[&str]) -> Outcome {
    let arguments = [&["rebuild"], arguments].concat();
    world.sync_es(&arguments).output().await
}

async fn slots(world: &World) -> Vec<String> {
    let sql = "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database() ORDER BY 1";
    let rows = world.db.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// A service that fills this generation itself has moved the alias to it.
async fn moves_alias(world: &World, program: &mut SyncEs, number: u32) {
    let index = generation(world, number);
    program
        .until("the alias has moved", async || {
            let on = world.search.indices(world.alias()).await;
            (on == [index.as_str()]).then_some(())
        })
        .await;
}

/// The service writes into this generation: the alias is on it alone, and its slot is the only one.
async fn goes_over(world: &World, program: &mut SyncEs, number: u32) {
    let index = generation(world, number);
    program
        .until("the service has gone over", async || {
            let run = world.latest_run().await?;
            (run["output_es_index"] == index && run["phase"] == "stream").then_some(())
        })
        .await;
    world.caught_up(program).await;
    assert_eq!(world.search.indices(world.alias()).await, [index]);
    assert_eq!(slots(world).await, [slot(world, number)]);
}

/// [`goes_over`], with nobody writing; and it equals the table.
async fn serves(world: &World, program: &mut SyncEs, number: u32) {
    goes_over(world, program, number).await;
    assert_equal(world, &Truth::organizations()).await;
}

#[test]
fn a_search_sees_nothing_of_a_rebuild_under_load_nor_of_the_way_back() {
    in_world(async |world| {
        add_rows(world, STILL).await;
        let mut workload = Workload::new(world, 900).await;
        (workload.writers, workload.rate) = (4, 60);
        workload.fill(world).await;
        let mut service = world.run();
        let standby = world.run();
        world.live(&mut service).await;
        let writers = workload.start(world).await;
        let searcher = Searcher::start(world).await;

        rebuild(world, &[]).await.succeeded();
        goes_over(world, &mut service, 2).await;
        // Nothing is to be done by hand for a second one.
        rebuild(world, &[]).await.succeeded();
        goes_over(world, &mut service, 3).await;
        rebuild(world, &["--rollback"]).await.succeeded();
        goes_over(world, &mut service, 2).await;

        writers.stop().await;
        serves(world, &mut service, 2).await;
        searcher.finish().await;
        service.stop().await;
        standby.stop().await;

        let dropped = rebuild(world, &["--drop"]).await;
        dropped.succeeded();
        for number in [1, 3] {
            let told = format!("dropped {}", generation(world, number));
            assert!(dropped.log.contains(&told), "{}", dropped.log);
        }
        let mut indices = world.search.indices(&format!("{}_v*", world.name)).await;
        indices.sort();
        assert_eq!(indices, [generation(world, 2)]);
        let mut again = world.run();
        serves(world, &mut again, 2).await;
        again.stop().await;
    });
}

#[test]
fn a_rebuild_that_is_killed_goes_on_or_is_dropped_and_leaves_nothing() {
    in_world(async |world| {
        let mut workload = Workload::new(world, 1_200).await;
        (workload.writers, workload.rate) = (4, 40);
        workload.fill(world).await;
        let mut service = world.run();
        world.live(&mut service).await;
        let writers = workload.start(world).await;
        let proxy = Proxy::start(world).await;
        let parts = world.sync_es(&["rebuild"]).through(&proxy);
        let parts = parts.env("ES_CLIENT_BATCH_SIZE", 20);

        // Killed in its snapshot, and dropped.
        killed_in_snapshot(&proxy, &parts).await;
        assert_eq!(slots(world).await, [slot(world, 1), slot(world, 2)]);
        rebuild(world, &["--drop"]).await.succeeded();
        let runs = world.search.indices(&format!("{}*", world.name)).await;
        assert!(!runs.contains(&generation(world, 2)), "{runs:?}");

        // Killed twice in its snapshot, then gone on with.
        killed_in_snapshot(&proxy, &parts).await;
        killed_in_snapshot(&proxy, &parts).await;
        assert_eq!(
            world.search.indices(world.alias()).await,
            [generation(world, 1)]
        );
        rebuild(world, &[]).await.succeeded();
        writers.stop().await;
        serves(world, &mut service, 2).await;
        rebuild(world, &["--drop"]).await.succeeded();
        service.stop().await;
    });
}

async fn killed_in_snapshot(proxy: &Proxy, rebuild: &Invocation) {
    proxy.let_through(200);
    let mut program = rebuild.start();
    program
        .until("its snapshot waits", async || {
            proxy.is_holding().then_some(())
        })
        .await;
    program.kill_9();
}

#[test]
fn a_rebuild_that_is_killed_when_the_alias_has_moved_is_completed_by_the_service() {
    in_world(async |world| {
        add_rows(world, STILL).await;
        // PostgreSQL does not end it for its silence.
        world
            .execute(&format!(
                "ALTER DATABASE {} SET wal_sender_timeout = '1h'",
                world.name
            ))
            .await;
        let mut service = world.run();
        world.caught_up(&mut service).await;
        // It cannot go over, so that the rebuild waits for it.
        service.pause();
        let mut program = world.sync_es(&["rebuild"]).start();
        program
            .until_log("it waits for the service", |log| {
                log.contains("waiting for the service to go over")
            })
            .await;
        let log = program.kill_9();
        assert!(log.contains("the alias points to the index"), "{log}");
        world
            .execute("DELETE FROM integrated_records WHERE hk < 'row-2'")
            .await;
        service.resume();
        serves(world, &mut service, 2).await;
        service.stop().await;
    });
}

#[test]
fn behind_a_stop_a_rebuild_leads_on_and_the_next_run_goes_on_with_the_new_generation() {
    in_world(async |world| {
        add_rows(world, STILL).await;
        let mut service = world.run();
        world.caught_up(&mut service).await;
        lose_slot(world, service).await;
        world
            .execute("UPDATE integrated_records SET name = 'away' WHERE hk < 'row-2'")
            .await;
        let stopped = world.sync_es(&["run"]).output().await;
        assert_eq!(stopped.code, Some(20), "{}", stopped.log);
        rebuild(world, &[]).await.succeeded();
        assert_eq!(slots(world).await, [slot(world, 2)]);
        assert_equal(world, &Truth::organizations()).await;
        world
            .execute("DELETE FROM integrated_records WHERE hk < 'row-15'")
            .await;
        let status = world.sync_es(&["status"]).output().await;
        let beside = format!("{}, no slot", generation(world, 1));
        for told in [generation(world, 2), beside] {
            assert!(status.log.contains(&told), "{told}\n{}", status.log);
        }
        let mut service = world.run();
        serves(world, &mut service, 2).await;
        let verified = world.sync_es(&["verify"]).output().await;
        assert_eq!(verified.code, Some(0), "{}", verified.log);
        let checked = world.sync_es(&["check"]).output().await;
        assert_eq!(checked.code, Some(0), "{}", checked.log);
        service.stop().await;
    });
}

#[test]
fn a_service_that_has_lost_its_slot_fills_the_next_generation_where_that_is_wanted() {
    in_world(async |world| {
        add_rows(world, STILL).await;
        let mut workload = Workload::new(world, 900).await;
        (workload.writers, workload.rate) = (4, 40);
        workload.fill(world).await;
        let mut service = world.run();
        world.live(&mut service).await;
        let writers = workload.start(world).await;
        let searcher = Searcher::start(world).await;
        lose_slot(world, service).await;

        let run = world.sync_es(&["run"]).env("SYNC_ES_LOST_SLOT", "rebuild");
        let checked = run.clone().arguments(&["check"]).output().await;
        assert_eq!(checked.code, Some(0), "{}", checked.log);
        let told = "run fills the next generation";
        assert!(checked.log.contains(told), "{}", checked.log);
        let proxy = Proxy::start(world).await;
        let parts = run.clone().through(&proxy).env("ES_CLIENT_BATCH_SIZE", 20);
        killed_in_snapshot(&proxy, &parts).await;
        // The other one finds the rebuild at work, or is the one that does it.
        let (mut service, standby) = (run.start(), run.start());
        moves_alias(world, &mut service, 2).await;
        goes_over(world, &mut service, 2).await;
        writers.stop().await;
        serves(world, &mut service, 2).await;
        searcher.finish().await;
        for program in [service, standby] {
            program.stop().await;
        }
    });
}

#[test]
fn a_slot_that_is_lost_before_anybody_searches_the_index_needs_no_other_one() {
    in_world(async |world| {
        add_rows(world, STILL).await;
        let run = world.sync_es(&["run"]).env("SYNC_ES_LOST_SLOT", "rebuild");
        let proxy = Proxy::start(world).await;
        let parts = run.clone().through(&proxy).env("ES_CLIENT_BATCH_SIZE", 20);
        killed_in_snapshot(&proxy, &parts).await;
        world.drop_slot().await;
        let mut service = run.start();
        serves(world, &mut service, 1).await;
        service.stop().await;
    });
}

#[test]
fn what_fits_the_lost_index_no_more_is_in_the_next_one() {
    in_world(async |world| {
        add_rows(world, STILL).await;
        let mut service = world.run();
        world.caught_up(&mut service).await;
        lose_slot(world, service).await;
        let changed = "ALTER TABLE integrated_records ALTER employee_count TYPE text";
        world.execute(changed).await;
        let run = world.sync_es(&["run"]).env("SYNC_ES_LOST_SLOT", "rebuild");
        let checked = run.clone().arguments(&["check"]).output().await;
        assert_eq!(checked.code, Some(0), "{}", checked.log);
        // Asked to end meanwhile, it does, and the next one goes on.
        let proxy = Proxy::start(world).await;
        proxy.refuse_bulks_after(0);
        let mut held = run.clone().through(&proxy).start();
        held.until_log("the next one is being filled", |log| {
            log.contains("filling another")
        })
        .await;
        held.stop().await;
        let mut service = run.start();
        moves_alias(world, &mut service, 2).await;
        serves(world, &mut service, 2).await;
        service.stop().await;
    });
}

#[test]
fn refused_documents_keep_the_alias_where_it_is_unless_they_are_accepted() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let call = with_a_mapping(world, &["run"]).await;
        let mut service = call.start();
        world.caught_up(&mut service).await;
        world.execute(POISON).await;
        world.caught_up(&mut service).await;
        let rebuild = call.clone().arguments(&["rebuild"]);
        let refused = rebuild.output().await;
        assert_eq!(refused.code, Some(3), "{}", refused.log);
        refused.failed_naming(&["--accept-dead-letters"]);
        let on = async || world.search.indices(world.alias()).await;
        assert_eq!(on().await, [generation(world, 1)]);
        // It goes on with what there is.
        let accepts = rebuild.arguments(&["rebuild", "--accept-dead-letters"]);
        accepts.output().await.succeeded();
        assert_eq!(on().await, [generation(world, 2)]);
        service.stop().await;
    });
}

#[test]
fn what_cannot_be_rebuilt_is_said_before_anything_is_made() {
    in_world(async |world| {
        add_rows(world, 3).await;
        let nothing = rebuild(world, &[]).await;
        assert_eq!(nothing.code, Some(9), "{}", nothing.log);
        nothing.failed_naming(&[world.alias(), "`sync-es run` fills that"]);

        world
            .sync_es(&["run", "--snapshot-only"])
            .output()
            .await
            .succeeded();
        let one_shot = rebuild(world, &[]).await;
        assert_eq!(one_shot.code, Some(9), "{}", one_shot.log);
        one_shot.failed_naming(&["one-shot"]);

        let mut service = world.run();
        world.caught_up(&mut service).await;
        let back = rebuild(world, &["--rollback"]).await;
        assert_eq!(back.code, Some(9), "{}", back.log);
        let none = rebuild(world, &["--drop"]).await;
        none.succeeded();
        assert!(
            none.log.contains("no generation but the one"),
            "{}",
            none.log
        );

        // Its snapshot does not come to its end.
        let proxy = Proxy::start(world).await;
        proxy.refuse_bulks_after(0);
        let mut first = world.sync_es(&["rebuild"]).through(&proxy).start();
        first
            .until_log("it is at work", |log| log.contains("filling another"))
            .await;
        for arguments in [&[][..], &["--rollback"], &["--drop"]] {
            let second = rebuild(world, arguments).await;
            assert_eq!(second.code, Some(9), "{}", second.log);
            second.failed_naming(&["another rebuild"]);
        }
        first.kill_9();
        rebuild(world, &["--drop"]).await.succeeded();
        world.caught_up(&mut service).await;
        service.stop().await;
        assert_tidy(world, &[]).await;
    });
}

#[test]
fn a_one_shot_run_does_not_take_the_alias_from_a_service() {
    in_world(async |world| {
        add_rows(world, 5).await;
        let mut service = world.run();
        world.caught_up(&mut service).await;
        let next = world.index().replace("_v1", "_v2");
        let beside = |index: &str, alias: &str| {
            let run = world.sync_es(&["run", "--snapshot-only"]);
            run.env("ELASTICSEARCH_INDEX_NAME", index)
                .env("ELASTICSEARCH_INDEX_ALIAS", alias)
        };
        let refused = beside(&next, world.alias()).output().await;
        assert_eq!(refused.code, Some(12), "{}", refused.log);
        refused.failed_naming(&[&world.index(), &world.slot(), "sync-es rebuild"]);
        let check = ["check", "--snapshot-only"];
        let checked = beside(&next, world.alias())
            .arguments(&check)
            .output()
            .await;
        assert_eq!(checked.code, Some(12), "{}", checked.log);
        checked.failed_naming(&["service", &world.slot()]);
        assert_eq!(world.search.count(&next).await, None);
        assert_eq!(world.search.indices(world.alias()).await, [world.index()]);

        // Under an alias of its own, and once the service is given up, nobody loses it.
        let (copy, copy_v1) = (
            format!("copy_{}", world.alias()),
            format!("copy_{}", world.index()),
        );
        beside(&copy_v1, &copy).output().await.succeeded();
        assert_eq!(world.search.indices(&copy).await, [copy_v1]);
        service.stop().await;
        world.sync_es(&["drop-slot"]).output().await.succeeded();
        beside(&next, world.alias()).output().await.succeeded();
        assert_eq!(world.search.indices(world.alias()).await, [next]);
        // Those of the world's own name are removed with it.
        for index in world.search.indices(&format!("{copy}*")).await {
            let path = format!("/{index}");
            world.search.must(Method::Delete, &path, None).await;
        }
        let template = format!("/_index_template/{copy}");
        world.search.must(Method::Delete, &template, None).await;
    });
}
