//! Asks a running service for its status.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::status::Status;

/// A service answers at once, or is not to be waited for.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest answer that can be one of ours.
const BYTES_MAX: usize = 1 << 20;

/// Why a service gave no status.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing listens there, or the connection broke.
    #[error("no connection: {0}")]
    Connection(#[from] std::io::Error),
    /// What came is not HTTP as we speak it.
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    /// Somebody else listens there.
    #[error("what answers there is no sync-es: {0}")]
    Foreign(String),
    /// No answer in time.
    #[error("no answer within {} s", LIMIT.as_secs())]
    Silent,
}

/// The status of the service that listens on `address`, `host:port`.
///
/// # Errors
/// None does, or it does not answer.
pub async fn ask(address: &str) -> Result<Status, AskError> {
    tokio::time::timeout(LIMIT, asked(address))
        .await
        .unwrap_or(Err(AskError::Silent))
}

async fn asked(address: &str) -> Result<Status, AskError> {
    let foreign = |error: &dyn std::fmt::Display| AskError::Foreign(error.to_string());
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/status")
        .header(header::HOST, address)
        .body(Empty::<Bytes>::new())
        .map_err(|error| foreign(&error))?;
    // The connection ends with its sender, or when the other side closes it.
    let answered = async move {
        let response = sender.send_request(request).await?;
        let body = Limited::new(response.into_body(), BYTES_MAX);
        let body = body.collect().await.map_err(|error| foreign(&error))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| foreign(&error))
    };
    // What is wrong with the connection is what the answer says too.
    let (answer, _) = tokio::join!(answered, connection);
    answer
}
