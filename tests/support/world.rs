//! A world per test: a database, a slot name, index names; gone when the test ends, however it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    panic::{AssertUnwindSafe, resume_unwind},
    path::PathBuf,
    sync::Mutex,
    time::{Duration, Instant},
};

use elasticsearch::http::{Method, Url};
use futures_util::FutureExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::{Client, Error, NoTls, error::SqlState};

use super::{DEADLINE, Search, SyncEs, process::Invocation, wait_until};

/// Dimensions where a test has no need of a real embedding's length.
const FEW_DIMENSIONS: usize = 8;

/// The servers that a test runs against.
pub(super) struct Endpoints {
    pub(super) postgres: Url,
    /// One a node, at least one.
    pub(super) elasticsearch: Vec<Url>,
}

/// Everything that one test has to itself.
pub(crate) struct World {
    /// Names the database, the alias and, with endings, everything else of this test.
    pub(crate) name: String,
    /// Length of the embedding.
    pub(crate) dimensions: usize,
    /// A superuser's connection to the test's database.
    pub(crate) db: Client,
    /// Elasticsearch.
    pub(crate) search: Search,
    /// The test's database, on the server that it is on now.
    database: Url,
    servers: Endpoints,
    settings: Mutex<Settings>,
    directory: TempDir,
}

/// Settings of whole servers that a test has changed, to be taken back at its end.
#[derive(Default)]
struct Settings {
    postgres: BTreeSet<String>,
    cluster: BTreeSet<String>,
}

/// The servers that the environment names.
pub(super) fn servers_of_the_environment() -> Endpoints {
    let url = |name: &str| {
        let value = env::var(name).unwrap_or_else(|_| {
            panic!("{name} is not set: run these tests with scripts/test, which starts the servers")
        });
        Url::parse(&value).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    Endpoints {
        postgres: url("SYNC_ES_TEST_POSTGRES_URL"),
        elasticsearch: vec![url("SYNC_ES_TEST_ELASTICSEARCH_URL")],
    }
}

/// Runs a test in a world with the table `integrated_records`.
pub(crate) fn in_world(test: impl AsyncFnOnce(&World)) {
    in_world_of(FEW_DIMENSIONS, test);
}

/// [`in_world`] with an embedding of `dimensions`.
pub(crate) fn in_world_of(dimensions: usize, test: impl AsyncFnOnce(&World)) {
    in_world_on(servers_of_the_environment(), dimensions, async |world| {
        test(world).await;
    });
}

/// [`in_world_of`] on given servers, for a test that has to make new connections.
pub(super) fn in_world_on(
    servers: Endpoints,
    dimensions: usize,
    test: impl AsyncFnOnce(&mut World),
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::create(servers, dimensions).await;
        let result = AssertUnwindSafe(test(&mut world)).catch_unwind().await;
        if result.is_err() {
            eprintln!("--- the world was {}", world.name);
        }
        world.remove().await;
        result.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

/// A connection whose driver runs until the client is dropped.
async fn connect(url: &Url) -> Client {
    try_connect(url)
        .await
        .unwrap_or_else(|error| panic!("PostgreSQL of the tests: {error}"))
}

/// [`connect`], where PostgreSQL may be down.
pub(super) async fn try_connect(url: &Url) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url.as_str(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A connection as soon as there can be one.
pub(super) async fn connect_again(url: &Url) -> Client {
    let start = Instant::now();
    loop {
        match try_connect(url).await {
            Ok(client) => return client,
            Err(error) if start.elapsed() > DEADLINE => panic!("PostgreSQL of the tests: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Whether an error says that the connection is gone: it was closed or reset, or its backend was
/// told to end (manual: "PostgreSQL Error Codes", class 57).
pub(super) fn connection_is_lost(error: &Error) -> bool {
    let ended = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ];
    error.is_closed()
        || error.code().is_some_and(|code| ended.contains(code))
        || std::error::Error::source(error)
            .is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}

impl World {
    async fn create(servers: Endpoints, dimensions: usize) -> Self {
        let name = format!("t_{:08x}", rand::random::<u32>());
        let admin = connect(&servers.postgres).await;
        admin
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await
            .unwrap();
        let mut url = servers.postgres.clone();
        url.set_path(&name);
        let world = Self {
            db: connect(&url).await,
            database: url,
            settings: Mutex::default(),
            search: Search::connect(&servers.elasticsearch[0]).await,
            directory: tempfile::tempdir().unwrap(),
            name,
            dimensions,
            servers,
        };
        world.execute(include_str!("../../sql/01-table.sql")).await;
        world
    }

    /// The URL of the test's database, with its user and password.
    pub(crate) fn postgres_url(&self) -> Url {
        self.database.clone()
    }

    /// From now on the test's database is the one of this name on the server at `port`, a copy.
    pub(crate) async fn move_to(&mut self, port: u16) {
        self.database.set_port(Some(port)).unwrap();
        self.reconnect().await;
    }

    /// The first URL of Elasticsearch.
    pub(crate) fn elasticsearch_url(&self) -> &Url {
        &self.servers.elasticsearch[0]
    }

    /// The alias that the program serves.
    pub(crate) fn alias(&self) -> &str {
        &self.name
    }

    /// The first generation's index.
    pub(crate) fn index(&self) -> String {
        format!("{}_v1", self.name)
    }

    /// The replication slot.
    pub(crate) fn slot(&self) -> String {
        format!("slot_{}", self.name)
    }

    /// A file of the test's own, with its contents.
    pub(crate) fn file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    /// Changes a setting of the PostgreSQL server, until the test ends.
    pub(crate) async fn alter_system(&self, setting: &str, value: &str) {
        self.note(|settings| settings.postgres.insert(setting.to_owned()));
        self.execute(&format!("ALTER SYSTEM SET {setting} = '{value}'"))
            .await;
        self.execute("SELECT pg_reload_conf()").await;
    }

    /// Changes settings of the Elasticsearch cluster in one step, or takes them back, until the test
    /// ends.
    pub(crate) async fn set_cluster(&self, settings: impl IntoIterator<Item = (String, Value)>) {
        let settings: serde_json::Map<String, Value> = settings.into_iter().collect();
        for setting in settings.keys() {
            self.note(|changed| changed.cluster.insert(setting.clone()));
        }
        let body = json!({ "persistent": settings });
        self.search
            .must(Method::Put, "/_cluster/settings", Some(body))
            .await;
    }

    fn note(&self, changed: impl FnOnce(&mut Settings) -> bool) {
        changed(&mut self.settings.lock().unwrap());
    }

    /// Replaces the world's connection, which ends with PostgreSQL.
    pub(crate) async fn reconnect(&mut self) {
        self.db = connect_again(&self.postgres_url()).await;
    }

    /// A second connection to the test's database.
    pub(crate) async fn connection(&self) -> Client {
        connect(&self.postgres_url()).await
    }

    /// A connection to another database of the same server.
    pub(crate) async fn elsewhere(&self) -> Client {
        connect(&self.servers.postgres).await
    }

    /// Statements without an answer.
    pub(crate) async fn execute(&self, statements: &str) {
        self.db
            .batch_execute(statements)
            .await
            .unwrap_or_else(|error| panic!("{statements}\n{error:?}"));
    }

    /// The first column of the first row, if there is a row and it is not NULL.
    pub(crate) async fn ask<T>(&self, query: &str) -> Option<T>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        let row = self
            .db
            .query_opt(query, &[])
            .await
            .unwrap_or_else(|error| panic!("{query}\n{error:?}"));
        row.and_then(|row| row.get(0))
    }

    /// A call of the program in this world.
    pub(crate) fn sync_es(&self, arguments: &[&str]) -> Invocation {
        let nodes: Vec<&str> = self.servers.elasticsearch.iter().map(Url::as_str).collect();
        let environment = BTreeMap::from([
            ("POSTGRES_URL".to_owned(), self.postgres_url().to_string()),
            ("ELASTICSEARCH_URLS".to_owned(), nodes.join(",")),
            ("ELASTICSEARCH_INDEX_NAME".to_owned(), self.index()),
            (
                "ELASTICSEARCH_INDEX_ALIAS".to_owned(),
                self.alias().to_owned(),
            ),
            (
                "EMBEDDING_DIMENSIONS".to_owned(),
                self.dimensions.to_string(),
            ),
            ("SYNC_ES_SLOT".to_owned(), self.slot()),
            ("SYNC_ES_LOG_FORMAT".to_owned(), "json".to_owned()),
            // Many run at once: a test that asks there gives an address.
            ("SYNC_ES_ADMIN_ADDR".to_owned(), "off".to_owned()),
        ]);
        Invocation::new(arguments, environment)
    }

    /// The program, always on.
    pub(crate) fn run(&self) -> SyncEs {
        self.sync_es(&["run"]).start()
    }

    /// The latest run's metadata.
    pub(crate) async fn latest_run(&self) -> Option<Value> {
        let index = format!("{}-sync-metadata", self.alias());
        let (status, _) = self
            .search
            .ask(Method::Post, &format!("/{index}/_refresh"), None)
            .await;
        if status != 200 {
            return None;
        }
        let body = json!({ "size": 1, "sort": [{ "started_at": "desc" }] });
        let path = format!("/{index}/_search");
        let answer = self.search.must(Method::Post, &path, Some(body)).await;
        answer["hits"]["hits"]
            .get(0)
            .map(|hit| hit["_source"].clone())
    }

    /// The documents that were refused and set aside.
    pub(crate) async fn dead_letters(&self) -> Vec<Value> {
        let index = format!("{}-sync-dead-letters", self.alias());
        if self.search.count(&index).await.unwrap_or(0) == 0 {
            return Vec::new();
        }
        let path = format!("/{index}/_search?size=1000");
        let answer = self.search.must(Method::Get, &path, None).await;
        let hits = answer["hits"]["hits"].as_array().unwrap();
        hits.iter().map(|hit| hit["_source"].clone()).collect()
    }

    /// What PostgreSQL was told of the slot: the LSN in bytes, none while there is no such slot.
    pub(crate) async fn confirmed(&self) -> Option<u64> {
        self.confirmed_by(&self.slot()).await
    }

    /// Waits until nobody streams from the slot: PostgreSQL lets it go a moment after the program has ended.
    pub(crate) async fn slot_is_idle(&self) {
        let active = format!(
            "SELECT active FROM pg_replication_slots WHERE slot_name = '{}'",
            self.slot()
        );
        wait_until("the slot is idle", async || {
            (self.ask(&active).await != Some(true)).then_some(())
        })
        .await;
    }

    /// Drops the slot, once whoever has just ended has let it go.
    pub(crate) async fn drop_slot(&self) {
        self.slot_is_idle().await;
        let slot = self.slot();
        self.ask::<String>(&format!("SELECT pg_drop_replication_slot('{slot}')::text"))
            .await;
    }

    async fn confirmed_by(&self, slot: &str) -> Option<u64> {
        let lsn: Option<i64> = self
            .ask(&format!(
                "SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = '{slot}'"
            ))
            .await;
        lsn.map(|lsn| u64::try_from(lsn).unwrap())
    }

    /// Waits until the alias is there, that is until the snapshot is in and the stream caught up.
    pub(crate) async fn live(&self, program: &mut SyncEs) {
        self.live_within(DEADLINE, program).await;
    }

    pub(crate) async fn live_within(&self, deadline: Duration, program: &mut SyncEs) {
        let alias = self.alias();
        program
            .until_within(deadline, "the alias is there", async || {
                (!self.search.indices(alias).await.is_empty()).then_some(())
            })
            .await;
    }

    /// Waits until the program has told PostgreSQL that it has everything committed before now.
    /// That the claim is true is the checker's and the monitor's business.
    pub(crate) async fn caught_up(&self, program: &mut SyncEs) {
        self.caught_up_within(DEADLINE, program).await;
    }

    /// [`Self::caught_up`] with a deadline of its own.
    pub(crate) async fn caught_up_within(&self, deadline: Duration, program: &mut SyncEs) {
        self.live_within(deadline, program).await;
        let lsn: i64 = self
            .ask("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
            .await
            .unwrap();
        // A commit after that LSN, so that there is something to confirm beyond it.
        self.ask::<String>("SELECT pg_logical_emit_message(true, 'sync-es-test', '')::text")
            .await;
        let lsn = u64::try_from(lsn).unwrap();
        program
            .until_within(deadline, "everything committed is confirmed", async || {
                let slot = self.latest_run().await?["slot"].clone();
                let confirmed = self.confirmed_by(slot.as_str()?).await?;
                if confirmed < lsn {
                    return None;
                }
                // A new slot begins above `lsn`: then the snapshot has to bring it. So the phase is
                // asked for after the slot, or it could be the one of a run before.
                let run = self.latest_run().await?;
                (run["slot"] == slot && run["phase"] == "stream").then_some(())
            })
            .await;
    }

    async fn remove(self) {
        let settings = std::mem::take(&mut *self.settings.lock().unwrap());
        if !settings.cluster.is_empty() {
            let back = settings.cluster.into_iter();
            self.set_cluster(back.map(|setting| (setting, Value::Null)))
                .await;
        }
        let admin = connect(&self.servers.postgres).await;
        for setting in settings.postgres {
            let reset = format!("ALTER SYSTEM RESET {setting}");
            admin.batch_execute(&reset).await.unwrap();
            admin
                .batch_execute("SELECT pg_reload_conf()")
                .await
                .unwrap();
        }
        let names = self.search.indices(&format!("{}*", self.name)).await;
        for index in names {
            self.search
                .ask(Method::Delete, &format!("/{index}"), None)
                .await;
        }
        self.remove_templates().await;
        self.drop_slots(&admin).await;
        drop(self.db);
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        admin.batch_execute(&drop).await.unwrap();
    }

    async fn remove_templates(&self) {
        let (_, answer) = self.search.ask(Method::Get, "/_index_template", None).await;
        let templates = answer["index_templates"].as_array();
        for template in templates.into_iter().flatten() {
            let patterns = template["index_template"]["index_patterns"].to_string();
            if patterns.contains(&self.name) {
                let path = format!("/_index_template/{}", template["name"].as_str().unwrap());
                self.search.ask(Method::Delete, &path, None).await;
            }
        }
    }

    async fn drop_slots(&self, admin: &Client) {
        let slots = "SELECT slot_name::text FROM pg_replication_slots WHERE database = $1";
        wait_until("the test's slots are dropped", async || {
            for row in admin.query(slots, &[&self.name]).await.unwrap() {
                let slot: String = row.get(0);
                let end = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1";
                admin.execute(end, &[&slot]).await.ok();
                // Refused while the backend that was just ended still holds it: the next look drops it.
                let drop = "SELECT pg_drop_replication_slot($1)";
                admin.execute(drop, &[&slot]).await.ok();
            }
            admin.query(slots, &[&self.name]).await.unwrap().is_empty().then_some(())
        })
        .await;
    }
}
