//! How to connect: the connection string, the service file, the `PG*` variables and the password
//! file, in the order in which libpq asks them (manual: "Database Connection Control Functions").
//!
//! Both connections, for queries and for the stream, are made from the same [`Options`]. A parameter
//! that we would not honour is refused, so that nobody believes a connection safer than it is.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::SecretString;

use super::{
    parameters::{Environment, Given, home},
    passfile,
    tls::{Roots, SslMode, Tls},
};

/// How to connect to PostgreSQL. Debug output holds no secret.
#[derive(Debug, Clone)]
pub struct Options {
    /// Nobody has said where it is.
    pub(super) by_default: bool,
    pub(super) hosts: Vec<Host>,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) tls: Tls,
    pub(super) target: Target,
    /// Limit for one attempt at one address, from name resolution to the first query's answer.
    pub(super) connect_timeout: Option<Duration>,
    pub(super) keepalive: Option<Keepalive>,
    /// How long sent data may stay unacknowledged.
    pub(super) tcp_user_timeout: Duration,
    pub(super) application_name: String,
    /// The user's own server options; ours come after them and so prevail.
    pub(super) startup: Option<String>,
    password: Option<SecretString>,
    passfile: Vec<passfile::Entry>,
}

/// One server to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// Name, address or socket directory, as it was given.
    pub(super) name: String,
    /// `hostaddr`: connect here, whatever the name resolves to.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
}

/// `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keepalive {
    pub(super) idle: Duration,
    pub(super) interval: Duration,
    pub(super) retries: u32,
}

/// Connection parameters that cannot be used. No variant holds a value: it may be the password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OptionsError {
    /// The connection string cannot be split into parameters.
    #[error("{origin} is no connection string: {problem}")]
    Malformed {
        /// Where it came from.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// A parameter that libpq does not have.
    #[error("{origin} has a parameter that does not exist{}", hint.map_or(String::new(), |name| format!("; did you mean {name}?")))]
    Unknown {
        /// Where it came from.
        origin: String,
        /// The parameter that was probably meant.
        hint: Option<&'static str>,
    },
    /// A value that is wrong.
    #[error("{parameter} ({origin}): expected {expected}")]
    Value {
        /// The parameter.
        parameter: &'static str,
        /// Where it came from.
        origin: String,
        /// What is expected.
        expected: String,
    },
    /// A parameter that we do not honour.
    #[error("{parameter} ({origin}): {reason}")]
    Unsupported {
        /// The parameter.
        parameter: &'static str,
        /// Where it came from.
        origin: String,
        /// What is possible instead.
        reason: String,
    },
    /// The service that is named is defined nowhere.
    #[error("service ({origin}): no definition in {}", files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or "))]
    Service {
        /// Where its name came from.
        origin: String,
        /// The service files that were read.
        files: Vec<PathBuf>,
    },
    /// A file that a parameter names cannot be read.
    #[error("cannot read {}: {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// No user name was given, and the system does not tell its own.
    #[error("no user name: add it to POSTGRES_URL, or set PGUSER")]
    NoUser,
}

const PORT: u16 = 5432;
/// Where PostgreSQL puts its sockets: as packaged, and as built from source.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

impl Options {
    /// Reads `url` (URL or key=value; may be absent), then what it leaves open from the service
    /// file, the `PG*` variables and the password file.
    ///
    /// # Errors
    /// A parameter is unknown, wrong or not honoured, or a file that is named cannot be read.
    pub fn read(
        url: Option<&SecretString>,
        environment: &Environment,
    ) -> Result<Self, OptionsError> {
        let given = Given::collect(url, environment)?;
        let home = home(environment);
        let user = match given.get("user") {
            Some(user) => user.to_owned(),
            None => whoami::username().map_err(|_| OptionsError::NoUser)?,
        };
        let passfile = match given.get("passfile") {
            Some(path) => passfile::read(Path::new(path)),
            None => home
                .as_deref()
                .map_or_else(Vec::new, |home| passfile::read(&home.join(".pgpass"))),
        };
        let names_a_host = ["host", "hostaddr", "service"].map(|name| given.get(name).is_some());
        Ok(Self {
            by_default: url.is_none() && !names_a_host.contains(&true),
            hosts: hosts(&given)?,
            database: given.get("dbname").unwrap_or(&user).to_owned(),
            tls: tls(&given, home.as_deref())?,
            target: target(&given)?,
            connect_timeout: match given.number("connect_timeout", 10)? {
                0 => None,
                seconds => Some(Duration::from_secs(seconds)),
            },
            keepalive: keepalive(&given)?,
            tcp_user_timeout: Duration::from_millis(given.number("tcp_user_timeout", 60_000)?),
            application_name: given
                .get("application_name")
                .or_else(|| given.get("fallback_application_name"))
                .unwrap_or("sync-es")
                .to_owned(),
            startup: given.get("options").map(str::to_owned),
            password: given
                .get("password")
                .map(|password| SecretString::from(password.to_owned())),
            passfile,
            user,
        })
    }

    /// Verifies the server's certificate against this PEM file instead of what was given before.
    pub fn trust(&mut self, roots: PathBuf) {
        self.tls.roots = Roots::File(roots);
    }

    /// `user@host:port/database`, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(Host::describe).collect();
        format!("{}@{}/{}", self.user, hosts.join(","), self.database)
    }

    /// A URL that holds no password and none of the other parameters.
    #[must_use]
    pub fn url_without_secrets(&self) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|host| match &host.name {
                path if host.is_socket() => format!("{}:{}", encoded(path), host.port),
                _ => host.describe(),
            })
            .collect();
        format!(
            "postgresql://{}@{}/{}",
            encoded(&self.user),
            hosts.join(","),
            encoded(&self.database)
        )
    }

    /// The password for this server: the one that was given, or the password file's.
    pub(super) fn password(&self, host: &Host) -> Option<SecretString> {
        self.password.clone().or_else(|| {
            let name = if host.is_socket() && SOCKET_DIRECTORIES.contains(&host.name.as_str()) {
                "localhost"
            } else {
                &host.name
            };
            let port = host.port.to_string();
            passfile::find(&self.passfile, [name, &port, &self.database, &self.user])
        })
    }
}

impl Host {
    pub(super) fn is_socket(&self) -> bool {
        self.name.starts_with('/')
    }

    /// Whether what is sent there stays on this machine.
    pub(super) fn is_local(&self) -> bool {
        let address = self.address.or_else(|| self.name.parse().ok());
        match address {
            Some(address) => address.is_loopback(),
            None => self.is_socket() || self.name == "localhost",
        }
    }

    pub(super) fn describe(&self) -> String {
        if self.name.contains(':') {
            format!("[{}]:{}", self.name, self.port)
        } else {
            format!("{}:{}", self.name, self.port)
        }
    }
}

fn hosts(given: &Given) -> Result<Vec<Host>, OptionsError> {
    let list = |name| {
        given
            .get(name)
            .map(|text| text.split(',').collect::<Vec<_>>())
    };
    let (names, addresses) = (list("host"), list("hostaddr"));
    let ports = list("port").unwrap_or_default();
    let count = names.as_ref().or(addresses.as_ref()).map_or(1, Vec::len);
    if addresses.as_ref().is_some_and(|list| list.len() != count) {
        return Err(given.wrong("hostaddr", "as many addresses as there are hosts"));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(given.wrong("port", "one port, or as many as there are hosts"));
    }
    (0..count)
        .map(|index| {
            let port = match *ports.get(index).or(ports.first()).unwrap_or(&"") {
                "" => PORT,
                text => text
                    .parse()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(|| given.wrong("port", "a number from 1 to 65535"))?,
            };
            let address: Option<IpAddr> = match addresses.as_ref().map_or("", |list| list[index]) {
                "" => None,
                text => Some(
                    text.parse()
                        .map_err(|_| given.wrong("hostaddr", "IP addresses"))?,
                ),
            };
            let name = match (names.as_ref().map_or("", |list| list[index]), address) {
                ("", Some(address)) => address.to_string(),
                ("", None) => default_host(port),
                (name, _) => name.to_owned(),
            };
            Ok(Host {
                name,
                address,
                port,
            })
        })
        .collect()
}

/// The directory that holds the server's socket, or this machine by TCP.
fn default_host(port: u16) -> String {
    SOCKET_DIRECTORIES
        .into_iter()
        .find(|directory| {
            Path::new(directory)
                .join(format!(".s.PGSQL.{port}"))
                .exists()
        })
        .unwrap_or("localhost")
        .to_owned()
}

fn tls(given: &Given, home: Option<&Path>) -> Result<Tls, OptionsError> {
    let default_file = |name: &str| {
        home.map(|home| home.join(".postgresql").join(name))
            .filter(|path| path.exists())
    };
    let mode = match given.get("sslmode") {
        None if given.get("sslrootcert") == Some("system") => Some(SslMode::VerifyFull),
        None => None,
        Some(text) => Some(SslMode::parse(text).ok_or_else(|| {
            given.wrong(
                "sslmode",
                "disable, allow, prefer, require, verify-ca or verify-full",
            )
        })?),
    };
    let roots = match given.get("sslrootcert") {
        Some("system") => Roots::System,
        Some(path) => Roots::File(PathBuf::from(path)),
        None => default_file("root.crt").map_or(Roots::System, Roots::File),
    };
    let file = |parameter, name| {
        given
            .get(parameter)
            .map(PathBuf::from)
            .or_else(|| default_file(name))
    };
    let client = match (
        file("sslcert", "postgresql.crt"),
        file("sslkey", "postgresql.key"),
    ) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(_), None) => return Err(given.wrong("sslcert", "sslkey beside it")),
        (None, _) => None,
    };
    Ok(Tls {
        mode,
        roots,
        client,
    })
}

fn target(given: &Given) -> Result<Target, OptionsError> {
    match given.get("target_session_attrs").unwrap_or("any") {
        "any" => Ok(Target::Any),
        "read-write" => Ok(Target::ReadWrite),
        "read-only" => Ok(Target::ReadOnly),
        "primary" => Ok(Target::Primary),
        "standby" => Ok(Target::Standby),
        "prefer-standby" => Ok(Target::PreferStandby),
        _ => Err(given.wrong(
            "target_session_attrs",
            "any, read-write, read-only, primary, standby or prefer-standby",
        )),
    }
}

fn keepalive(given: &Given) -> Result<Option<Keepalive>, OptionsError> {
    if given.number("keepalives", 1)? == 0 {
        return Ok(None);
    }
    let retries = u32::try_from(given.number("keepalives_count", 3)?)
        .map_err(|_| given.wrong("keepalives_count", "a small number"))?;
    Ok(Some(Keepalive {
        idle: Duration::from_secs(given.number("keepalives_idle", 30)?),
        interval: Duration::from_secs(given.number("keepalives_interval", 10)?),
        retries,
    }))
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
