//! The replication connection: frames in, confirmed LSNs out.
//!
//! `pgwire-replication` is named in this file alone, behind [`Stream`], so that it can be replaced.
//! It answers keepalives and sends status updates by itself, always with the LSN that was confirmed
//! last, also while nobody reads; it confirms nothing on its own. A dead connection is told from an idle
//! one by the server's own requests: when it has heard nothing from us for half of `wal_sender_timeout`,
//! it asks for a sign of life. So nothing is sent to it unasked while there is nothing to confirm, since
//! that would keep it from asking, and we give up once it has been silent for longer than
//! `wal_sender_timeout`. `START_REPLICATION` gets 0/0: the server knows where the slot stands, and a
//! position of ours ahead of it would silently skip.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use pgwire_replication::{
    PgWireError, ReplicationClient, ReplicationEvent, SslMode as ClientSslMode,
    config::{Publication, ReplicationConfig, TlsConfig},
};
use secrecy::ExposeSecret;

use super::{ReplicationParts, SslMode, catalog::quoted, error::heals};
use crate::change::Lsn;

/// What the server sends, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A transaction begins; the server sends committed transactions only, in commit order.
    Begin {
        /// The LSN of its commit record.
        commit: Lsn,
        /// Its 32-bit transaction id.
        xid: u32,
    },
    /// A pgoutput message other than Begin, Commit and a logical message.
    Message(Bytes),
    /// The transaction is complete.
    Commit {
        /// The LSN of its commit record.
        commit: Lsn,
        /// The LSN just after it: what can be confirmed.
        end: Lsn,
        /// When it was committed, in microseconds since 1970 by the server's clock.
        at: i64,
    },
    /// The server's sign of life.
    Keepalive {
        /// What it has decoded so far: all of it that concerns the publication has been sent.
        wal_end: Lsn,
    },
}

/// A replication connection that failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct ReplicationError {
    /// What was being done, on which object.
    pub doing: String,
    /// The client's error.
    #[source]
    pub source: PgWireError,
}

impl ReplicationError {
    /// Whether trying again later can succeed without anybody doing something.
    #[must_use]
    pub fn heals(&self) -> bool {
        match &self.source {
            PgWireError::Io(_) | PgWireError::Task(_) | PgWireError::Internal(_) => true,
            PgWireError::Server(text) => sqlstate(text).is_none_or(heals),
            PgWireError::Tls(text) => is_broken_handshake(text),
            _ => false,
        }
    }

    /// Whether a publication that the stream asks for is gone (42704): the slot, which could be missing
    /// as well, is there while it is streamed from.
    #[must_use]
    pub fn is_publication_gone(&self) -> bool {
        matches!(&self.source, PgWireError::Server(text) if sqlstate(text) == Some("42704") && text.contains("publication"))
    }

    /// Whether the role lacks a right (42501).
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(&self.source, PgWireError::Server(text) if sqlstate(text) == Some("42501"))
    }
}

/// Whether the connection broke during the TLS handshake. The client keeps only the text of what the
/// system or `tokio-rustls` said; what TLS itself finds wrong (a certificate) reads otherwise.
fn is_broken_handshake(text: &str) -> bool {
    let cause = text.strip_prefix("TLS handshake failed: ");
    cause.is_some_and(|cause| cause.contains("(os error ") || cause == "tls handshake eof")
}

/// The SQLSTATE that the client writes into its error text.
fn sqlstate(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("SQLSTATE ")?;
    rest.get(..5)
}

/// How long a confirmation waits for the next, at most, and between two status updates while frames
/// wait for us. Far below any sane `wal_sender_timeout` (60 s by default).
const STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// The first moment of 2000, from which PostgreSQL counts, in microseconds since 1970.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Frames between the socket and us: enough to hide a task switch; with 4 the stream is 5 to 10 % slower.
/// Nothing bounds their bytes: of rows of 10 MB they take 160 MB, plus one more row that the client is
/// reading.
const BUFFERED_FRAMES: usize = 16;
/// The largest message taken. A row cannot be larger than 1 GiB in PostgreSQL either; what is held
/// is bounded by the window, of which such a row is a whole one.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Where to connect to, as whom, and how long to wait for it.
#[derive(Clone)]
pub struct Endpoint {
    config: ReplicationConfig,
    silence_max: Duration,
}

/// The server of a session, for the replication protocol.
#[must_use]
pub fn endpoint(parts: &ReplicationParts) -> Endpoint {
    let mode = match parts.encryption {
        SslMode::Disable | SslMode::Allow | SslMode::Prefer => ClientSslMode::Disable,
        SslMode::Require => ClientSslMode::Require,
        SslMode::VerifyCa => ClientSslMode::VerifyCa,
        SslMode::VerifyFull => ClientSslMode::VerifyFull,
    };
    let (certificate, key) = parts.client_certificate.clone().unzip();
    let tls = TlsConfig {
        mode,
        ca_pem_path: parts.roots.clone(),
        sni_hostname: Some(parts.server_name.clone()),
        client_cert_pem_path: certificate,
        client_key_pem_path: key,
    };
    let config = ReplicationConfig::new(
        &parts.host,
        &parts.user,
        parts.password.expose_secret(),
        &parts.database,
        "",
        "",
    );
    Endpoint {
        config: config
            .with_port(parts.port)
            .with_tls(tls)
            .with_options(&parts.options)
            .with_application_name(&parts.application_name)
            // Left to the server: were we to speak unasked, it would never ask.
            .with_wakeup_interval(parts.silence_max),
        silence_max: parts.silence_max,
    }
}

/// A new slot and the snapshot that goes with it.
pub struct NewSlot {
    /// Every transaction that commits at or after this LSN will be streamed.
    pub consistent_point: Lsn,
    /// The name of the exported snapshot: it sees every transaction that committed before.
    pub snapshot: String,
    /// The session that holds the snapshot; it is gone when this is dropped.
    _session: Connection,
}

/// Creates a logical slot and exports its snapshot (manual: "Streaming Replication Protocol",
/// `CREATE_REPLICATION_SLOT`). Waits for transactions that are running.
///
/// # Errors
/// The connection failed, the role may not, or a slot of the name exists (42710).
pub async fn create_slot(endpoint: Endpoint, slot: &str) -> Result<NewSlot, ReplicationError> {
    let failed = |source| ReplicationError {
        doing: format!("creating replication slot {slot}"),
        source,
    };
    let mut session = Connection(
        ReplicationClient::connect_gated(endpoint.config)
            .await
            .map_err(failed)?,
    );
    // Creating a slot may take as long as it likes, an answer to this may not.
    within(endpoint.silence_max, session.0.identify_system())
        .await
        .map_err(failed)?;
    // The form without parentheses is understood by every supported version.
    let command = format!(
        "CREATE_REPLICATION_SLOT {} LOGICAL pgoutput EXPORT_SNAPSHOT",
        quoted(slot)
    );
    let rows = session.0.simple_query(&command).await.map_err(failed)?;
    let text = |column: usize| {
        let value = rows
            .first()
            .and_then(|row| row.get(column))
            .and_then(Option::as_ref);
        value
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .ok_or_else(|| {
                failed(PgWireError::Protocol(format!(
                    "no column {column} in the answer"
                )))
            })
    };
    let point = text(1)?;
    let consistent_point = point
        .parse()
        .map_err(|_| failed(PgWireError::Protocol(format!("consistent point {point:?}"))))?;
    Ok(NewSlot {
        consistent_point,
        snapshot: text(2)?,
        _session: session,
    })
}

/// A connection that is closed when it is dropped, also while the client waits for the server in it.
struct Connection(ReplicationClient);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the server says in time, or that it is silent.
async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, PgWireError>>,
) -> Result<T, PgWireError> {
    tokio::time::timeout(limit, answer)
        .await
        .unwrap_or_else(|_| {
            let silent = format!("the server has been silent for {limit:?}");
            let error = io::Error::new(io::ErrorKind::TimedOut, silent);
            Err(PgWireError::Io(Arc::new(error)))
        })
}

/// An open stream of a slot.
pub struct Stream {
    connection: Connection,
    slot: String,
    silence_max: Duration,
}

impl Stream {
    /// Starts streaming `publication` from where `slot` was last confirmed.
    ///
    /// # Errors
    /// The connection failed, the slot is in use (55006, which heals), gone or invalidated.
    pub async fn start(
        endpoint: Endpoint,
        slot: &str,
        publication: &str,
    ) -> Result<Self, ReplicationError> {
        let failed = |source| ReplicationError {
            doing: format!("starting replication from slot {slot}"),
            source,
        };
        let Endpoint {
            config,
            silence_max,
        } = endpoint;
        let mut config = config
            .with_start_lsn(pgwire_replication::Lsn::ZERO)
            .with_binary(true)
            .with_status_interval(STATUS_INTERVAL)
            .with_buffer_size(BUFFERED_FRAMES)
            .with_max_message_size(MESSAGE_BYTES_MAX);
        slot.clone_into(&mut config.slot);
        // The server splits the list as identifiers and folds their case unless quoted.
        config.publication = Publication::from(quoted(publication));
        let client = ReplicationClient::connect(config).await.map_err(failed)?;
        let mut connection = Connection(client);
        within(silence_max, connection.0.wait_started())
            .await
            .map_err(failed)?;
        Ok(Self {
            connection,
            slot: slot.to_owned(),
            silence_max,
        })
    }

    /// The next frame. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The connection ended or the server is silent, the slot was invalidated or the publication is gone.
    pub async fn next(&mut self) -> Result<Frame, ReplicationError> {
        loop {
            let event = within(self.silence_max, self.connection.0.recv())
                .await
                .map_err(|source| self.failed(source))?;
            match event {
                Some(ReplicationEvent::XLogData { data, .. }) => return Ok(Frame::Message(data)),
                Some(ReplicationEvent::Begin { final_lsn, xid, .. }) => {
                    return Ok(Frame::Begin {
                        commit: Lsn(final_lsn.0),
                        xid,
                    });
                }
                Some(ReplicationEvent::Commit {
                    lsn,
                    end_lsn,
                    commit_time_micros,
                }) => {
                    return Ok(Frame::Commit {
                        commit: Lsn(lsn.0),
                        end: Lsn(end_lsn.0),
                        at: commit_time_micros.saturating_add(EPOCH_MICROS),
                    });
                }
                Some(ReplicationEvent::KeepAlive { wal_end, .. }) => {
                    return Ok(Frame::Keepalive {
                        wal_end: Lsn(wal_end.0),
                    });
                }
                // Logical messages carry no row, and no stop LSN is asked for.
                Some(ReplicationEvent::Message { .. } | ReplicationEvent::StoppedAt { .. }) => {}
                None => {
                    let error = io::ErrorKind::UnexpectedEof.into();
                    return Err(self.failed(PgWireError::Io(Arc::new(error))));
                }
            }
        }
    }

    /// Tells the server that everything before `stored` will never be asked for again. It goes out
    /// with the next status update. Only an LSN that is stored may be given.
    pub fn confirm(&self, stored: Lsn) {
        self.connection
            .0
            .update_applied_lsn(pgwire_replication::Lsn::from_u64(stored.0));
    }

    /// Lets the last confirmation reach the server and ends the stream.
    ///
    /// # Errors
    /// The connection broke before that; the server will send again what it did not hear of.
    pub async fn close(mut self) -> Result<(), ReplicationError> {
        // The client sends its status update also while frames wait for us.
        tokio::time::sleep(STATUS_INTERVAL + Duration::from_millis(100)).await;
        within(self.silence_max, self.connection.0.shutdown())
            .await
            .map_err(|source| ReplicationError {
                doing: format!("closing the stream of slot {}", self.slot),
                source,
            })
    }

    fn failed(&self, source: PgWireError) -> ReplicationError {
        ReplicationError {
            doing: format!("streaming from slot {}", self.slot),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> ReplicationError {
        ReplicationError {
            doing: String::new(),
            source: PgWireError::Server(text.to_owned()),
        }
    }

    #[test]
    fn a_handshake_that_broke_off_heals_and_a_wrong_certificate_does_not() {
        let tls = |text: &str| ReplicationError {
            doing: String::new(),
            source: PgWireError::Tls(text.to_owned()),
        };
        let reset = io::Error::from_raw_os_error(104);
        assert!(tls(&format!("TLS handshake failed: {reset}")).heals());
        assert!(tls("TLS handshake failed: tls handshake eof").heals());
        assert!(!tls("TLS handshake failed: invalid peer certificate: UnknownIssuer").heals());
        assert!(!tls("server does not support TLS (SSLRequest rejected)").heals());
    }

    #[test]
    fn a_slot_in_use_heals_and_a_missing_one_does_not() {
        assert!(server("replication slot \"s\" is active for PID 7 (SQLSTATE 55006)").heals());
        assert!(
            server("terminating connection due to administrator command (SQLSTATE 57P01)").heals()
        );
        assert!(!server("replication slot \"s\" does not exist (SQLSTATE 42704)").heals());
        assert!(
            !server("cannot read from logical replication slot \"s\" (SQLSTATE 55000)").heals()
        );
    }
}
