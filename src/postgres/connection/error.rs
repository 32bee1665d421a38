//! Why a connection could not be made: one line with where, what, and what to do.
//! Two questions sort a cause: does waiting help, and is another host worth a try?

use std::{error::Error, fmt, io, time::Duration};

use tokio_postgres::error::SqlState;

use super::super::error::heals;

/// No host could be used.
#[derive(Debug, Clone)]
pub struct ConnectError {
    pub(super) database: String,
    pub(super) user: String,
    /// Nobody has said where.
    pub(super) by_default: bool,
    /// One a host, in the order in which they were tried.
    pub(super) failures: Vec<Failure>,
}

/// What one host answered.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// `host:port`.
    pub(super) host: String,
    pub(super) cause: Cause,
}

/// A connection that had been made is gone.
#[derive(Debug, Clone, thiserror::Error)]
#[error("connection to PostgreSQL at {host}:{port} ended: {cause}")]
pub struct SessionEnded {
    /// Name or socket directory.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Why.
    pub cause: String,
}

#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Cause {
    #[error("the name cannot be resolved ({0}); check the host in POSTGRES_URL")]
    Unresolved(String),
    #[error("connection refused; is PostgreSQL running there, and listening on this port?")]
    Refused,
    #[error("no answer within {} s; is a firewall between?", .0.as_secs())]
    Timeout(Duration),
    #[error("there is no socket; is PostgreSQL running there, and using this directory and port?")]
    NoSocket,
    #[error("the connection broke ({0}); is this a PostgreSQL server, and is it up?")]
    Broken(String),
    #[error(
        "the server does not speak TLS; turn it on there, or, if you trust the network between, \
         set sslmode=disable in POSTGRES_URL"
    )]
    NoTls,
    #[error("{0}")]
    TlsFiles(String),
    #[error(
        "TLS: {0}; name the authority that signed the server's certificate in POSTGRES_CA_CERT, \
         and the host as the certificate does (or choose a weaker sslmode in POSTGRES_URL)"
    )]
    Tls(String),
    #[error(
        "the connection broke during the TLS handshake ({0}); is the server up, and does nothing \
         between forbid TLS?"
    )]
    BrokenHandshake(String),
    #[error(
        "TLS: {0}; the server asks for a certificate of ours: name one that it trusts, and its key, \
         in sslcert and sslkey of POSTGRES_URL"
    )]
    ClientCertificate(String),
    #[error("the password is wrong; check POSTGRES_URL, PGPASSWORD or the password file")]
    Password,
    #[error(
        "a password is asked and none was given; set it in POSTGRES_URL, PGPASSWORD or the password file"
    )]
    NoPassword,
    #[error("refused: {0}; check the role and the server's pg_hba.conf")]
    Role(String),
    #[error("refused: {0}; grant it: GRANT CONNECT ON DATABASE … TO …")]
    Denied(String),
    #[error("there is no such database; check its name in POSTGRES_URL")]
    Database,
    #[error("{0}; it may pass")]
    Busy(String),
    #[error("the session is not {0}, which target_session_attrs asks for")]
    Unfit(&'static str),
    #[error("{0}")]
    Server(String),
    #[error("{0}; is this a PostgreSQL server?")]
    Protocol(String),
}

impl ConnectError {
    /// Whether waiting may mend it: nothing listens yet, a network fault, a server that starts or
    /// is full. What a person must mend (a password, a name, a certificate) does not heal.
    #[must_use]
    pub fn heals(&self) -> bool {
        self.failures.iter().any(|failure| failure.cause.heals())
    }

    /// Whether the role lacks the right to connect.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        let denied = |failure: &Failure| matches!(failure.cause, Cause::Denied(_));
        self.failures.iter().any(denied)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot connect to PostgreSQL, database {:?} as user {:?}",
            self.database, self.user
        )?;
        let mut separator = ": ";
        for failure in &self.failures {
            write!(f, "{separator}{}: {}", failure.host, failure.cause)?;
            separator = " | ";
        }
        if self.by_default {
            f.write_str(" (POSTGRES_URL is not set)")?;
        }
        Ok(())
    }
}

impl Error for ConnectError {}

impl Cause {
    /// What tokio-postgres tells, sorted.
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        if let Some(answer) = error.as_db_error() {
            return Self::of_answer(answer.code(), answer.message());
        }
        let chain = || std::iter::successors(error.source(), |&error| error.source());
        let io = chain().find_map(|error| error.downcast_ref::<io::Error>());
        let deepest = chain()
            .last()
            .map_or_else(|| error.to_string(), ToString::to_string);
        // tokio-postgres keeps an error's kind to itself; its text is what tells.
        match (error.to_string().as_str(), deepest.as_str()) {
            ("error performing TLS handshake", "server does not support TLS") => Self::NoTls,
            (_, alert) if is_about_our_certificate(alert) => Self::ClientCertificate(deepest),
            ("error performing TLS handshake", _) => match io.map(io::Error::kind) {
                Some(kind) if is_of_the_wire(kind) => Self::BrokenHandshake(deepest),
                _ => Self::Tls(deepest),
            },
            ("invalid configuration", "password missing") => Self::NoPassword,
            ("error connecting to server" | "error communicating with the server", _) => {
                match io.map(io::Error::kind) {
                    Some(io::ErrorKind::ConnectionRefused) => Self::Refused,
                    Some(io::ErrorKind::NotFound) => Self::NoSocket,
                    _ => Self::Broken(deepest),
                }
            }
            ("connection closed", _) => Self::Broken("the server closed the connection".to_owned()),
            ("authentication error", _) => {
                Self::Server(format!("authentication failed: {deepest}"))
            }
            (text, _) => Self::Protocol(format!("{text}: {deepest}")),
        }
    }

    fn of_answer(code: &SqlState, message: &str) -> Self {
        match *code {
            SqlState::INVALID_PASSWORD => Self::Password,
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION => Self::Role(message.to_owned()),
            SqlState::INVALID_CATALOG_NAME => Self::Database,
            SqlState::INSUFFICIENT_PRIVILEGE => Self::Denied(message.to_owned()),
            // What we ask for when we connect stays the same, so a server that does not understand it
            // will not either next time.
            ref state if heals(state.code()) && *state != SqlState::PROTOCOL_VIOLATION => {
                Self::Busy(message.to_owned())
            }
            _ => Self::Server(format!("{message} (SQLSTATE {})", code.code())),
        }
    }

    fn heals(&self) -> bool {
        match self {
            Self::Unresolved(_)
            | Self::Refused
            | Self::Timeout(_)
            | Self::NoSocket
            | Self::Broken(_)
            | Self::BrokenHandshake(_)
            | Self::Busy(_)
            | Self::Unfit(_) => true,
            Self::NoTls
            | Self::TlsFiles(_)
            | Self::Tls(_)
            | Self::ClientCertificate(_)
            | Self::Password
            | Self::NoPassword
            | Self::Role(_)
            | Self::Denied(_)
            | Self::Database
            | Self::Server(_)
            | Self::Protocol(_) => false,
        }
    }

    /// A server that says no has spoken for all of them, as libpq has it.
    pub(super) fn ends_the_search(&self) -> bool {
        matches!(
            self,
            Self::Password
                | Self::NoPassword
                | Self::Role(_)
                | Self::Denied(_)
                | Self::Database
                | Self::Server(_)
        )
    }

    /// Whether the same server may answer otherwise with TLS instead of without, or the reverse.
    pub(super) fn may_differ_with_encryption(&self) -> bool {
        matches!(
            self,
            Self::NoTls
                | Self::Tls(_)
                | Self::BrokenHandshake(_)
                | Self::ClientCertificate(_)
                | Self::Role(_)
        )
    }
}

/// Whether a connection failed beneath TLS. What TLS itself finds wrong comes as `InvalidData`.
fn is_of_the_wire(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::NotConnected
            | Kind::UnexpectedEof
            | Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    )
}

/// An alert about a certificate that comes from the server speaks of the client's. With TLS 1.3 it
/// comes when the handshake is already over for the client.
fn is_about_our_certificate(error: &str) -> bool {
    let alert = error.strip_prefix("received fatal alert: ");
    alert.is_some_and(|alert| alert.contains("Certificate") || alert == "UnknownCA")
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio_postgres::{Config, config::SslMode, tls::MakeTlsConnect};

    use super::*;

    fn error(causes: &[(&str, Cause)]) -> ConnectError {
        ConnectError {
            database: "records".to_owned(),
            user: "cdc".to_owned(),
            by_default: false,
            failures: causes
                .iter()
                .map(|(host, cause)| Failure {
                    host: (*host).to_owned(),
                    cause: cause.clone(),
                })
                .collect(),
        }
    }

    #[test]
    fn an_error_names_every_host_with_its_cause_in_one_line() {
        let both = error(&[("a:5432", Cause::Refused), ("b:5433", Cause::Password)]);
        let text = both.to_string();
        assert!(!text.contains('\n'));
        for part in [
            "a:5432",
            "b:5433",
            "\"records\"",
            "\"cdc\"",
            "refused",
            "PGPASSWORD",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn waiting_helps_when_one_host_may_come_back() {
        assert!(error(&[("a", Cause::NoTls), ("b", Cause::Refused)]).heals());
        assert!(!error(&[("a", Cause::Password)]).heals());
        assert!(!error(&[("a", Cause::Tls("UnknownIssuer".to_owned()))]).heals());
        let reset = Cause::BrokenHandshake("Connection reset by peer".to_owned());
        assert!(reset.may_differ_with_encryption() && error(&[("a", reset)]).heals());
    }

    /// What becomes of a connection whose server answers the wish for TLS, and then the handshake, with
    /// the bytes of `answer`, and closes it. Such an error cannot be made otherwise.
    async fn handshake(answer: &'static [u8]) -> Cause {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let (near, mut far) = tokio::io::duplex(1 << 12);
        let server = async move {
            let mut request = [0; 8];
            far.read_exact(&mut request).await.unwrap();
            let (wish, alert) = answer.split_at(1);
            far.write_all(wish).await.unwrap();
            if !alert.is_empty() {
                far.read_u8().await.unwrap();
                far.write_all(alert).await.unwrap();
                // Whatever else there is to read; the client ends it.
                tokio::io::copy(&mut far, &mut tokio::io::sink()).await.ok();
            }
        };
        let roots = rustls::RootCertStore::empty();
        let provider = rustls::crypto::ring::default_provider();
        let tls = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tls = tokio_postgres_rustls::MakeRustlsConnect::new(tls);
        let tls = MakeTlsConnect::<DuplexStream>::make_tls_connect(&mut tls, "host").unwrap();
        let mut config = Config::new();
        config.user("u").ssl_mode(SslMode::Require);
        let (connected, ()) = tokio::join!(config.connect_raw(near, tls), server);
        Cause::of(&connected.err().unwrap())
    }

    #[tokio::test]
    async fn a_handshake_that_breaks_off_is_told_from_one_that_fails() {
        assert!(matches!(handshake(b"S").await, Cause::BrokenHandshake(_)));
        // An alert: handshake_failure.
        let failed = handshake(b"S\x15\x03\x03\x00\x02\x02\x28").await;
        assert!(matches!(failed, Cause::Tls(_)), "{failed}");
        assert!(matches!(handshake(b"N").await, Cause::NoTls));
    }

    #[test]
    fn an_answer_of_the_server_is_sorted_by_its_sqlstate() {
        let cause = |code: &str| Cause::of_answer(&SqlState::from_code(code), "words");
        assert!(matches!(cause("28P01"), Cause::Password));
        assert!(matches!(cause("3D000"), Cause::Database));
        assert!(matches!(cause("28000"), Cause::Role(_)));
        assert!(cause("57P03").heals() && !cause("57P03").ends_the_search());
        assert!(cause("53300").heals());
        assert!(cause("53200").heals() && !cause("53200").ends_the_search());
        assert!(!cause("08P01").heals());
        assert!(!cause("42501").heals() && cause("42501").ends_the_search());
    }
}
