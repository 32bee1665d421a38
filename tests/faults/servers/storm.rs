//! One storm: writers, instances of the program, faults beside and over each other, then the verdict.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use elasticsearch::http::Method;
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::plan::{Fault, Plan};
use crate::support::{
    AckMonitor, Fault as BulkFault, Invocation, Mode, Observer, Proxy, Refusing, Server, Servers,
    SyncEs, Truth, Wire, Workload, World, assert_equal, assert_tidy, wait_until,
};

/// Keys of the table.
const KEYS: usize = 1_500;
/// Changes per second.
const RATE: u32 = 150;
/// Memory that an instance may take; a build without optimisation takes more than a release.
const MEMORY_KB: u64 = 160 * 1024;
/// Files that an instance may have open.
const FILES: usize = 64;
/// Log that PostgreSQL may keep for us once all is in and a checkpoint was made.
const RETAINED: i64 = 64 << 20;
/// The exit codes that a supervisor answers with a restart: an end that cannot be reached at the start.
const NOT_REACHED: [i32; 2] = [10, 11];

/// What bulk requests meet by chance.
const STRANGE: [(BulkFault, f64); 8] = [
    (BulkFault::Repeat, 0.1),
    (BulkFault::RepeatLater, 0.05),
    (BulkFault::LoseAnswer, 0.1),
    (BulkFault::Truncate, 0.1),
    (BulkFault::Shorten, 0.05),
    (BulkFault::Misanswer, 0.05),
    (BulkFault::Undead(Duration::from_secs(2)), 0.05),
    (
        BulkFault::RefuseItems(Refusing {
            held_back: 0.2,
            carried_out: 0.1,
        }),
        0.3,
    ),
];

/// What a storm that was weathered has to tell.
#[derive(Debug, Serialize)]
pub(crate) struct Passed {
    changes: u64,
    starts: usize,
    /// Advances of the confirmed LSN, and keys that were looked up for them.
    advances: u64,
    keys_checked: u64,
    /// Looks for steps back in time, and changes seen by them.
    looks: u64,
    steps: u64,
    memory_kb: u64,
}

/// The processes under test, and what stands between them and Elasticsearch.
struct Storm<'a> {
    world: &'a World,
    servers: &'a Servers,
    proxy: &'a Proxy,
    wire: &'a Wire,
    run: Invocation,
    instances: Vec<Mutex<SyncEs>>,
    /// One fault at a time on each server; several may be at work on different ones.
    elasticsearch: Mutex<()>,
    postgres: Mutex<()>,
    starts: AtomicUsize,
    memory_kb: AtomicU64,
}

/// Runs the plan and judges what it left.
pub(crate) async fn storm(world: &mut World, servers: &Servers, plan: &Plan) -> Passed {
    Observer::prepare(world).await;
    let mut workload = Workload::new(world, KEYS).await;
    (workload.seed, workload.rate) = (plan.seed, RATE);
    workload.fill(world).await;
    let monitor = AckMonitor::start(world).await;
    let writers = workload.start(world).await;
    // Slow enough that the first faults find the snapshot under way.
    let proxy = Proxy::slow(world, Duration::from_millis(40)).await;
    let wire = Wire::to_postgres(world, plan.seed).await;
    let run = invocation(world, &wire, &proxy);
    let storm = Storm {
        world: &*world,
        servers,
        proxy: &proxy,
        wire: &wire,
        instances: (0..plan.instances)
            .map(|_| Mutex::new(run.start()))
            .collect(),
        run,
        elasticsearch: Mutex::new(()),
        postgres: Mutex::new(()),
        starts: AtomicUsize::new(plan.instances),
        memory_kb: AtomicU64::new(0),
    };
    let weathered = async {
        let observer = async {
            storm.live().await;
            Observer::start(storm.world, KEYS, plan.seed).await
        };
        let steps = join_all(plan.steps.iter().map(async |step| {
            tokio::time::sleep(Duration::from_millis(step.at)).await;
            storm.suffer(step.fault).await;
        }));
        let (observer, _) = tokio::join!(observer, steps);
        proxy.pass();
        let changes = writers.changes();
        writers.stop().await;
        storm.caught_up().await;
        (changes, observer.finish().await)
    };
    let (changes, seen) = tokio::select! {
        weathered = weathered => weathered,
        never = storm.supervise() => match never {},
    };
    let (starts, memory_kb) = storm.end().await;
    world.reconnect().await;
    assert_equal(
        world,
        &Truth::organizations_with(&[("rev", "to_jsonb(rev)")]),
    )
    .await;
    let found = monitor.finish().await;
    assert_tidy(world, &[&format!("audit_{}", world.name)]).await;
    assert!(memory_kb < MEMORY_KB, "{memory_kb} kB of memory");
    Passed {
        changes,
        starts,
        advances: found.advances,
        keys_checked: found.keys,
        looks: seen.looks,
        steps: seen.steps,
        memory_kb,
    }
}

/// Small requests and short waits, so that much happens in little time.
fn invocation(world: &World, wire: &Wire, proxy: &Proxy) -> Invocation {
    world
        .sync_es(&["run"])
        .env("POSTGRES_URL", wire.url())
        .env("ES_CLIENT_BATCH_SIZE", 20)
        .env("ES_RETRY_BACKOFF_SECONDS", 0.2)
        .env("ES_RETRY_MAX_BACKOFF_SECONDS", 2)
        .through(proxy)
}

impl Storm<'_> {
    /// One fault, from its beginning to its end.
    async fn suffer(&self, fault: Fault) {
        eprintln!("{fault:?}");
        match fault {
            Fault::KillProgram | Fault::StopProgram | Fault::PauseProgram { .. } => {
                self.suffer_program(fault).await;
            }
            Fault::KillElasticsearch { ms } => {
                let _alone = self.elasticsearch.lock().await;
                self.servers.kill(Server::Elasticsearch).await;
                pause(ms).await;
                self.servers.restart(Server::Elasticsearch).await;
            }
            Fault::PauseElasticsearch { ms } => {
                let _alone = self.elasticsearch.lock().await;
                self.servers.pause(Server::Elasticsearch).await;
                pause(ms).await;
                self.servers.resume(Server::Elasticsearch).await;
            }
            Fault::KillPostgres { ms } => {
                let _alone = self.postgres.lock().await;
                self.servers.kill(Server::Postgres).await;
                pause(ms).await;
                self.servers.restart(Server::Postgres).await;
            }
            Fault::StopPostgres { ms } => {
                let _alone = self.postgres.lock().await;
                self.servers.stop_postgres(Mode::Fast).await;
                pause(ms).await;
                self.servers.restart(Server::Postgres).await;
            }
            Fault::TerminateBackends => {
                let _alone = self.postgres.lock().await;
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                            WHERE datname = current_database() AND pid <> pg_backend_pid()
                              AND application_name LIKE 'sync-es%'";
                self.world.connection().await.query(end, &[]).await.unwrap();
            }
            Fault::RefuseBulks { count } => self.proxy.refuse_bulks(count),
            Fault::LoseAnswers { count } => self.proxy.lose_answers(count),
            Fault::SlowBulks { ms } => {
                self.proxy.delay_bulks(Duration::from_millis(ms));
                pause(3_000).await;
                self.proxy.delay_bulks(Duration::ZERO);
            }
            Fault::StrangeBulks { seed, ms } => {
                self.proxy.by_chance(seed, &STRANGE);
                pause(ms).await;
                self.proxy.pass();
            }
            Fault::WirePostgres { seed, ms } => {
                self.wire.storm(seed, Duration::from_millis(ms)).await;
            }
            Fault::BlockWrites { ms } => {
                let _alone = self.elasticsearch.lock().await;
                self.settings(json!({ "index.blocks.write": true })).await;
                pause(ms).await;
                self.settings(json!({ "index.blocks.write": null })).await;
            }
            Fault::CloseIndex { ms } => {
                let _alone = self.elasticsearch.lock().await;
                self.index(Method::Post, "_close", None).await;
                pause(ms).await;
                self.index(Method::Post, "_open", None).await;
            }
        }
    }

    /// Whichever instance is at work or stands by, it is its turn.
    async fn suffer_program(&self, fault: Fault) {
        let turn = self.starts.load(Ordering::Relaxed) % self.instances.len();
        let mut instance = self.instances[turn].lock().await;
        match fault {
            Fault::PauseProgram { ms } => {
                instance.pause();
                pause(ms).await;
                instance.resume();
                return;
            }
            Fault::StopProgram => instance.terminate(),
            _ => instance.kill(),
        }
        let ended = std::mem::replace(&mut *instance, self.run.start());
        self.starts.fetch_add(1, Ordering::Relaxed);
        // A second instance is at work while the first one drains, as in a rolling restart.
        let outcome = ended.ended().await;
        let expected = (fault == Fault::StopProgram).then_some(0);
        assert!(
            outcome.code == expected
                || outcome.code.is_some_and(|code| NOT_REACHED.contains(&code)),
            "{fault:?} ended it with {:?}\n{}",
            outcome.code,
            outcome.log
        );
    }

    /// Starts an instance again that could not reach a server at its start, as a supervisor would, and
    /// looks at what the instances take.
    async fn supervise(&self) -> Infallible {
        loop {
            for instance in &self.instances {
                let mut instance = instance.lock().await;
                let Some(memory_kb) = instance.memory_kb() else {
                    let ended = std::mem::replace(&mut *instance, self.run.start());
                    self.starts.fetch_add(1, Ordering::Relaxed);
                    let outcome = ended.ended().await;
                    assert!(
                        outcome.code.is_some_and(|code| NOT_REACHED.contains(&code)),
                        "ended by itself with {:?}\n{}",
                        outcome.code,
                        outcome.log
                    );
                    continue;
                };
                self.memory_kb.fetch_max(memory_kb, Ordering::Relaxed);
                let files = instance.open_files();
                assert!(files < FILES, "{files} files are open");
            }
            pause(100).await;
        }
    }

    /// Stops the instances; how many were started in all, and the most memory that one took.
    async fn end(self) -> (usize, u64) {
        for instance in self.instances {
            instance.into_inner().stop().await;
        }
        (self.starts.into_inner(), self.memory_kb.into_inner())
    }

    /// Waits until the alias is there.
    async fn live(&self) {
        let alias = self.world.alias();
        wait_until("the alias is there", async || {
            (!self.world.search.indices(alias).await.is_empty()).then_some(())
        })
        .await;
    }

    /// Waits until everything that is committed now is confirmed.
    async fn caught_up(&self) {
        let postgres = self.world.connection().await;
        let slot = self.world.slot();
        let mark = "SELECT (pg_logical_emit_message(true, 'storm', '') - '0/0')::bigint";
        let lsn: i64 = postgres.query_one(mark, &[]).await.unwrap().get(0);
        let ask = async |what: &str| -> Option<i64> {
            let query =
                format!("SELECT ({what})::bigint FROM pg_replication_slots WHERE slot_name = $1");
            let row = postgres.query_opt(&query, &[&slot]).await.unwrap();
            row.map(|row| row.get(0))
        };
        wait_until("everything committed is confirmed", async || {
            let confirmed = ask("confirmed_flush_lsn - '0/0'").await?;
            (confirmed >= lsn).then_some(())
        })
        .await;
        postgres.batch_execute("CHECKPOINT").await.unwrap();
        let retained = ask("pg_current_wal_lsn() - restart_lsn").await.unwrap();
        assert!(retained < RETAINED, "{retained} bytes of log are kept");
    }

    async fn settings(&self, settings: Value) {
        self.index(Method::Put, "_settings", Some(settings)).await;
    }

    /// A request of an operator's, who repeats it until it is carried out.
    async fn index(&self, method: Method, path: &str, body: Option<Value>) {
        let path = format!("/{}/{path}", self.world.index());
        wait_until(&path, async || {
            let (status, _) = self.world.search.ask(method, &path, body.clone()).await;
            // While nothing is there yet, there is nothing to break.
            (status < 300 || status == 404).then_some(())
        })
        .await;
    }
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
