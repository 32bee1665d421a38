//! The connection for queries: which server answers, by which TLS, in which session.
//!
//! Hosts and their addresses are tried in order, one at a time, and the one that answered is kept:
//! the stream must come from the same server ([`Options::replication_parts`]). The session's
//! settings are pinned as startup options, which prevail over those of the role and the database,
//! so that nothing set there changes what a value looks like or how long a statement may take.

use std::{fmt::Write as _, net::IpAddr, path::PathBuf, sync::Once, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use tokio::{net, sync::watch, time};
use tokio_postgres::{
    Client, Config, NoTls, SimpleQueryMessage, Socket, tls::MakeTlsConnect, tls::TlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    error::{Cause, ConnectError, Failure, SessionEnded},
    options::{Host, Options, Target},
    tls::SslMode,
};
use crate::postgres::Error;

/// A session with the server that answered. It ends when `client` is dropped.
#[derive(Debug)]
pub struct Session {
    /// For queries; its settings are pinned.
    pub client: Client,
    /// Who answered.
    pub server: Server,
    /// `server_version_num`, for example 150018.
    pub version: u32,
    /// How long the server waits for a silent client: its `wal_sender_timeout`, or
    /// [`PATIENCE_DEFAULT`] where that is off.
    pub patience: Duration,
    ended: watch::Receiver<Option<String>>,
}

/// One server, found once and then addressed exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Name or socket directory, as it was given.
    pub host: String,
    /// The address that answered; `None` for a socket.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// What was agreed on: `Disable`, `Require`, `VerifyCa` or `VerifyFull`.
    pub encryption: SslMode,
}

/// What a client for the replication protocol needs in order to reach the same server in the same way.
#[derive(Debug, Clone)]
pub struct ReplicationParts {
    /// Address or socket directory to connect to.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Password; empty when there is none.
    pub password: SecretString,
    /// Database.
    pub database: String,
    /// `Disable`, `Require`, `VerifyCa` or `VerifyFull`.
    pub encryption: SslMode,
    /// The name that the certificate must be made for.
    pub server_name: String,
    /// PEM file with the roots; `None` when the system keeps them elsewhere.
    pub roots: Option<PathBuf>,
    /// Certificate chain and key of the client, PEM files.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The startup parameter `options`, which pins the session.
    pub options: String,
    /// The startup parameter `application_name`.
    pub application_name: String,
    /// How long the server may be silent, at most.
    pub silence_max: Duration,
}

/// Patience of a server that has been told to wait for ever: what it has when told nothing.
const PATIENCE_DEFAULT: Duration = Duration::from_mins(1);
/// How much longer than the server we wait, so that a word on its way still arrives.
const PATIENCE_MARGIN: Duration = Duration::from_secs(5);

/// Pinned in every session. Waiting for a lock ends after 30 s, because a queued lock request
/// makes all later statements on the table wait behind it.
const PINNED: [(&str, &str); 14] = [
    ("search_path", "pg_catalog,pg_temp"),
    ("DateStyle", "ISO,YMD"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("row_security", "off"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("lock_timeout", "30s"),
    // A session whose client's machine vanished without a word ends in a minute.
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];

/// From this version on there is `transaction_timeout`, which older servers refuse as a startup option.
const TRANSACTION_TIMEOUT_SINCE: u32 = 170_000;

/// Connects to the first host that answers and has the properties that `target_session_attrs` asks.
///
/// # Errors
/// No host did; the error has one cause a host, and says whether waiting may help.
pub async fn connect(options: &Options) -> Result<Session, ConnectError> {
    let rounds: &[Target] = match options.target {
        Target::PreferStandby => &[Target::Standby, Target::Any],
        Target::Any => &[Target::Any],
        Target::ReadWrite => &[Target::ReadWrite],
        Target::ReadOnly => &[Target::ReadOnly],
        Target::Primary => &[Target::Primary],
        Target::Standby => &[Target::Standby],
    };
    let mut failures = Vec::new();
    for target in rounds {
        failures.clear();
        for host in &options.hosts {
            match connect_host(options, host, *target).await {
                Ok(session) => return Ok(session),
                Err(cause) => {
                    let last = cause.ends_the_search();
                    failures.push(Failure {
                        host: host.describe(),
                        cause,
                    });
                    if last {
                        break;
                    }
                }
            }
        }
    }
    Err(ConnectError {
        database: options.database.clone(),
        user: options.user.clone(),
        by_default: options.by_default,
        failures,
    })
}

impl Session {
    /// How long an answer may take on a connection that is alive.
    #[must_use]
    pub fn silence_max(&self) -> Duration {
        self.patience + PATIENCE_MARGIN
    }

    /// From now on the server ends this session, and frees the locks that it holds, once it has
    /// heard nothing for [`Self::patience`]. Keepalives of TCP do not tell it that: whatever stands
    /// between answers them too. So [`Self::lost`] has to be awaited meanwhile.
    ///
    /// # Errors
    /// The query failed.
    pub async fn expire_when_silent(&self) -> Result<(), Error> {
        let milliseconds = self.patience.as_millis();
        let sql = format!("SET idle_session_timeout = {milliseconds}");
        let set = self.client.batch_execute(&sql).await;
        set.map_err(Error::doing("limiting how long the session may be idle"))
    }

    /// Lets the server hear of the session now and then, and waits until the connection has ended or
    /// an answer is overdue.
    pub async fn lost(&self) -> SessionEnded {
        tokio::select! {
            ended = self.ended() => ended,
            cause = self.silent() => self.because(cause),
        }
    }

    /// Waits until an answer is overdue. One that fails is the end of the connection, which is told
    /// elsewhere.
    async fn silent(&self) -> String {
        let limit = self.silence_max();
        loop {
            time::sleep(self.patience / 4).await;
            if time::timeout(limit, self.client.simple_query(""))
                .await
                .is_err()
            {
                return format!("no answer within {limit:?}");
            }
        }
    }

    /// Waits until the connection has ended, and says why.
    async fn ended(&self) -> SessionEnded {
        let mut ended = self.ended.clone();
        let cause = match ended.wait_for(Option::is_some).await {
            Ok(cause) => cause.clone().unwrap_or_default(),
            Err(_) => "its task was stopped".to_owned(),
        };
        self.because(cause)
    }

    fn because(&self, cause: String) -> SessionEnded {
        SessionEnded {
            host: self.server.host.clone(),
            port: self.server.port,
            cause,
        }
    }
}

impl Server {
    fn as_host(&self) -> Host {
        Host {
            name: self.host.clone(),
            address: self.address,
            port: self.port,
        }
    }
}

impl Options {
    /// The same for further sessions on the server that this one is on, and on no other: what one session
    /// has waited for, another server may not have yet.
    #[must_use]
    pub fn on_the_server_of(&self, session: &Session) -> Self {
        let mut options = self.clone();
        options.hosts = vec![session.server.as_host()];
        // The default depends on whether the host was local by its name, which the address does not tell.
        options
            .tls
            .mode
            .get_or_insert(match session.server.encryption {
                SslMode::VerifyFull => SslMode::VerifyFull,
                _ => SslMode::Prefer,
            });
        options
    }

    /// The same server, the same TLS and the same session settings for the stream.
    #[must_use]
    pub fn replication_parts(&self, session: &Session) -> ReplicationParts {
        let server = &session.server;
        let host = server.as_host();
        ReplicationParts {
            host: match server.address {
                Some(address) => address.to_string(),
                None => server.host.clone(),
            },
            port: server.port,
            user: self.user.clone(),
            password: self.password(&host).unwrap_or_default(),
            database: self.database.clone(),
            encryption: server.encryption,
            server_name: server.host.clone(),
            roots: self.tls.roots_file(),
            client_certificate: self.tls.client.clone(),
            // The server's own setting, unless that is to wait for ever.
            options: format!(
                "{} -c wal_sender_timeout={}",
                self.startup_options(),
                session.patience.as_millis()
            ),
            application_name: self.application_name.clone(),
            silence_max: session.silence_max(),
        }
    }

    /// The user's options, then ours, so that ours prevail.
    fn startup_options(&self) -> String {
        let mut options = self.startup.clone().unwrap_or_default();
        for (name, value) in PINNED {
            let separator = if options.is_empty() { "" } else { " " };
            // Writing to a String cannot fail.
            let _ = write!(options, "{separator}-c {name}={value}");
        }
        options
    }

    fn config(&self, host: &Host, server: &Server) -> Config {
        let mut config = Config::new();
        config
            .user(&self.user)
            .dbname(&self.database)
            .options(self.startup_options())
            .application_name(&self.application_name)
            .port(host.port)
            .tcp_user_timeout(self.tcp_user_timeout)
            .ssl_mode(match server.encryption {
                SslMode::Disable => tokio_postgres::config::SslMode::Disable,
                _ => tokio_postgres::config::SslMode::Require,
            });
        match server.address {
            Some(address) => config.host(&host.name).hostaddr(address),
            None => config.host_path(&host.name),
        };
        if let Some(password) = self.password(host) {
            config.password(password.expose_secret());
        }
        match self.keepalive {
            Some(keepalive) => config
                .keepalives_idle(keepalive.idle)
                .keepalives_interval(keepalive.interval)
                .keepalives_retries(keepalive.retries),
            None => config.keepalives(false),
        };
        config
    }
}

async fn connect_host(options: &Options, host: &Host, target: Target) -> Result<Session, Cause> {
    let mut last = Cause::Unresolved("the name has no address".to_owned());
    for address in within(options, resolve(host)).await? {
        let mut first = None;
        for encryption in options.tls.attempts(host) {
            let server = Server {
                host: host.name.clone(),
                address,
                port: host.port,
                encryption: *encryption,
            };
            let cause = match within(options, open(options, host, server, target)).await {
                Ok(session) => return Ok(session),
                Err(cause) => cause,
            };
            let again = cause.may_differ_with_encryption();
            // The preferred way tells more, unless it did not exist.
            first = first
                .filter(|first| !matches!(first, Cause::NoTls))
                .or(Some(cause));
            if !again {
                break;
            }
        }
        last = first.unwrap_or(last);
        if last.ends_the_search() {
            break;
        }
    }
    Err(last)
}

/// The addresses to try; a socket is one without an address.
async fn resolve(host: &Host) -> Result<Vec<Option<IpAddr>>, Cause> {
    if let Some(address) = host.address {
        return Ok(vec![Some(address)]);
    }
    if host.is_socket() {
        return Ok(vec![None]);
    }
    net::lookup_host((host.name.as_str(), host.port))
        .await
        .map(|addresses| addresses.map(|address| Some(address.ip())).collect())
        .map_err(|error| Cause::Unresolved(error.to_string()))
}

async fn within<T>(
    options: &Options,
    attempt: impl Future<Output = Result<T, Cause>>,
) -> Result<T, Cause> {
    match options.connect_timeout {
        None => attempt.await,
        Some(limit) => time::timeout(limit, attempt)
            .await
            .unwrap_or(Err(Cause::Timeout(limit))),
    }
}

async fn open(
    options: &Options,
    host: &Host,
    server: Server,
    target: Target,
) -> Result<Session, Cause> {
    let config = options.config(host, &server);
    if server.encryption == SslMode::Disable {
        return start(&config, NoTls, server, target).await;
    }
    if server.encryption == SslMode::Require && !host.is_local() {
        warn_unverified(&host.name);
    }
    let tls = options
        .tls
        .client_config(server.encryption)
        .map_err(|error| Cause::TlsFiles(error.to_string()))?;
    start(&config, MakeRustlsConnect::new(tls), server, target).await
}

async fn start<T>(config: &Config, tls: T, server: Server, target: Target) -> Result<Session, Cause>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
    T::TlsConnect: TlsConnect<Socket>,
{
    let (client, connection) = config.connect(tls).await.map_err(|e| Cause::of(&e))?;
    let (tell, ended) = watch::channel(None);
    tokio::spawn(async move {
        let cause = match connection.await {
            Ok(()) => "it was closed".to_owned(),
            Err(error) => Cause::of(&error).to_string(),
        };
        tell.send_replace(Some(cause));
    });
    let facts = facts(&client).await.map_err(|e| Cause::of(&e))?;
    if !facts.fit(target) {
        return Err(Cause::Unfit(target.describe()));
    }
    if facts.version >= TRANSACTION_TIMEOUT_SINCE {
        let pinned = client.batch_execute("SET transaction_timeout = 0").await;
        pinned.map_err(|error| Cause::of(&error))?;
    }
    Ok(Session {
        client,
        server,
        version: facts.version,
        patience: facts.patience,
        ended,
    })
}

/// What the server is, as far as `target_session_attrs` asks, and how long it waits.
#[derive(Debug, Clone, Copy)]
struct Facts {
    version: u32,
    patience: Duration,
    standby: bool,
    read_only: bool,
}

impl Facts {
    fn fit(self, target: Target) -> bool {
        match target {
            Target::Any | Target::PreferStandby => true,
            Target::ReadWrite => !self.read_only,
            Target::ReadOnly => self.read_only,
            Target::Primary => !self.standby,
            Target::Standby => self.standby,
        }
    }
}

async fn facts(client: &Client) -> Result<Facts, tokio_postgres::Error> {
    let answer = client
        .simple_query(
            "SELECT current_setting('server_version_num'), pg_is_in_recovery(), \
             current_setting('transaction_read_only'), \
             (SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout')",
        )
        .await?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let column = |index| row.and_then(|row| row.get(index)).unwrap_or_default();
    // In milliseconds; 0 is for ever.
    let patience = column(3).parse().ok().filter(|patience| *patience > 0);
    Ok(Facts {
        version: column(0).parse().unwrap_or_default(),
        patience: patience.map_or(PATIENCE_DEFAULT, Duration::from_millis),
        standby: column(1) == "t",
        read_only: column(2) == "on",
    })
}

impl Target {
    fn describe(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }
}

fn warn_unverified(host: &str) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            host,
            "sslmode=require encrypts, but does not verify who answers; sslmode=verify-full does"
        );
    });
}
