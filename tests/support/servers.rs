//! Control over the servers that a test runs against. Whatever it takes down is up again when it
//! ends, even by a panic, so that the next test finds its servers.

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use tempfile::TempDir;

use super::world::{Endpoints, World, in_world_on, servers_of_the_environment};

/// Tests that break servers run one by one, whatever `--test-threads` says, and none beside them.
static TURN: RwLock<()> = RwLock::new(());

/// One of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Server {
    Postgres,
    /// A copy of it that follows it, once a test has started one.
    Standby,
    /// The only node, or the first.
    Elasticsearch,
    /// A further node: the second has number 2.
    Node(u8),
}

/// How PostgreSQL is to end (manual: "Shutting Down the Server").
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    /// Clients are disconnected, walsenders send what is left.
    Fast,
    /// As in a crash, but asked for.
    Immediate,
}

/// Servers that `scripts/servers` has started as processes.
pub(crate) struct Servers {
    directory: PathBuf,
    down: Mutex<BTreeMap<Server, Down>>,
    standby: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
enum Down {
    Paused,
    Ended,
}

/// Runs a test in a world whose servers nobody breaks meanwhile, nor may it.
pub(crate) fn in_world_beside_others(dimensions: usize, test: impl AsyncFnOnce(&mut World)) {
    let _turn = TURN.read().unwrap_or_else(PoisonError::into_inner);
    in_world_on(servers_of_the_environment(), dimensions, test);
}

/// Runs a test in a world, alone, and lets it break the servers.
pub(crate) fn in_world_with_servers(
    dimensions: usize,
    test: impl AsyncFnOnce(&mut World, &Servers),
) {
    let _turn = TURN.write().unwrap_or_else(PoisonError::into_inner);
    in_world_on(servers_of_the_environment(), dimensions, async |world| {
        // Dropped before the world is removed, which needs both servers.
        let servers = Servers::from_env();
        test(world, &servers).await;
    });
}

/// Runs a test in a world whose Elasticsearch is a cluster of three nodes of its own, and lets it
/// break them.
pub(crate) fn in_world_with_cluster(
    dimensions: usize,
    test: impl AsyncFnOnce(&mut World, &Servers),
) {
    let _turn = TURN.write().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start();
    in_world_on(cluster.endpoints(), dimensions, async |world| {
        let servers = Servers::of(cluster.directory.path());
        test(world, &servers).await;
    });
}

/// Three nodes, gone when dropped.
struct Cluster {
    directory: TempDir,
}

impl Cluster {
    /// Of the version that the other tests run on, beside their PostgreSQL.
    fn start() -> Self {
        let others = Servers::from_env();
        let command = fs::read_to_string(others.directory.join("elasticsearch.command")).unwrap();
        // `…/elasticsearch-8.19.21/classes`
        let (_, release) = command.split_once("/elasticsearch-").unwrap();
        let version: Vec<&str> = release.split('.').take(2).collect();
        let directory = tempfile::tempdir().unwrap();
        let mut script = Servers::of(directory.path()).script("start");
        script
            .args(["--processes", "--nodes", "3", "--elasticsearch"])
            .arg(version.join("."))
            .env(
                "POSTGRES_URL",
                servers_of_the_environment().postgres.as_str(),
            )
            .env_remove("ELASTICSEARCH_URLS");
        let cluster = Self { directory };
        must_succeed(script);
        cluster
    }

    fn endpoints(&self) -> Endpoints {
        let env = fs::read_to_string(self.directory.path().join("env")).unwrap();
        let urls = env
            .lines()
            .find_map(|line| line.strip_prefix("ELASTICSEARCH_URLS="))
            .unwrap();
        Endpoints {
            elasticsearch: urls.split(',').map(|url| url.parse().unwrap()).collect(),
            ..servers_of_the_environment()
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut script = Servers::of(self.directory.path()).script("stop");
        script.status().ok();
    }
}

impl Servers {
    /// The servers whose state directory `SYNC_ES_TEST_SERVERS` names.
    pub(crate) fn from_env() -> Self {
        let directory = env::var_os("SYNC_ES_TEST_SERVERS").expect(
            "SYNC_ES_TEST_SERVERS is not set: run these tests with scripts/test, which starts the servers",
        );
        Self::of(Path::new(&directory))
    }

    /// The servers whose state directory this is.
    fn of(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            down: Mutex::default(),
            standby: AtomicBool::new(false),
        }
    }

    /// SIGKILL to all of its processes at once.
    pub(crate) async fn kill(&self, server: Server) {
        self.call("kill", server, &[]).await;
        self.note(server, Some(Down::Ended));
    }

    /// SIGSTOP: its connections stay open, and nothing answers.
    pub(crate) async fn pause(&self, server: Server) {
        self.note(server, Some(Down::Paused));
        self.call("pause", server, &[]).await;
    }

    /// Ends a pause.
    pub(crate) async fn resume(&self, server: Server) {
        self.call("continue", server, &[]).await;
        self.note(server, None);
    }

    /// Asks PostgreSQL to end, and waits for it.
    pub(crate) async fn stop_postgres(&self, mode: Mode) {
        let mode = match mode {
            Mode::Fast => "fast",
            Mode::Immediate => "immediate",
        };
        self.note(Server::Postgres, Some(Down::Ended));
        self.call("shutdown", Server::Postgres, &[mode]).await;
    }

    /// Asks an Elasticsearch node to end, and waits for it.
    pub(crate) async fn stop(&self, server: Server) {
        self.note(server, Some(Down::Ended));
        self.call("shutdown", server, &[]).await;
    }

    /// Restarts PostgreSQL, and starts a copy of it as its standby, which is gone when the test ends.
    /// Returns the copy's port.
    pub(crate) async fn start_standby(&self) -> u16 {
        self.standby.store(true, Ordering::Relaxed);
        succeed(self.script("standby")).await;
        let port = fs::read_to_string(self.directory.join("standby.port")).unwrap();
        port.trim().parse().unwrap()
    }

    /// Starts again what was killed or stopped, and waits until it answers.
    pub(crate) async fn restart(&self, server: Server) {
        self.call("restart", server, &[]).await;
        self.note(server, None);
    }

    /// The state directory, with the data of the servers.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn note(&self, server: Server, down: Option<Down>) {
        let mut all = self.down.lock().unwrap();
        match down {
            Some(down) => all.insert(server, down),
            None => all.remove(&server),
        };
    }

    async fn call(&self, command: &str, server: Server, arguments: &[&str]) {
        let mut script = self.script(command);
        script.arg(server.to_string()).args(arguments);
        succeed(script).await;
    }

    fn script(&self, command: &str) -> Command {
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/servers"));
        script
            .arg(command)
            .arg(&self.directory)
            .stdin(Stdio::null());
        script
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let down = self.down.get_mut().unwrap_or_else(PoisonError::into_inner);
        down.remove(&Server::Standby);
        for (server, down) in std::mem::take(down) {
            let command = match down {
                Down::Paused => "continue",
                Down::Ended => "restart",
            };
            let status = self.script(command).arg(server.to_string()).status();
            if !status.is_ok_and(|status| status.success()) {
                eprintln!("{server} did not come back: the tests that follow will fail");
            }
        }
        if *self.standby.get_mut() {
            let standby = Server::Standby.to_string();
            self.script("stop").arg(standby).status().ok();
        }
    }
}

/// Off this thread: writers and monitor go on meanwhile.
async fn succeed(script: Command) {
    tokio::task::spawn_blocking(move || must_succeed(script))
        .await
        .unwrap();
}

fn must_succeed(mut script: Command) {
    let output = script.output().expect("scripts/servers runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script:?}: {error}");
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres => f.write_str("postgres"),
            Self::Standby => f.write_str("standby"),
            Self::Elasticsearch => f.write_str("elasticsearch"),
            Self::Node(number) => write!(f, "elasticsearch-{number}"),
        }
    }
}
