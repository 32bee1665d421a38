//! Locks that PostgreSQL holds for a session: free again as soon as the session is gone, or PostgreSQL
//! has heard nothing of it for a while ([`super::Session::expire_when_silent`]).

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::Error;

/// How long PostgreSQL may take to notice that a process is gone and to let its locks and slots go.
pub(super) const LETTING_GO: Duration = Duration::from_secs(5);
/// Between two tries.
pub(super) const PAUSE: Duration = Duration::from_millis(250);

/// Takes the lock for the rest of the session; false when another session has it.
///
/// # Errors
/// The query failed.
pub async fn take(client: &Client, name: &str) -> Result<bool, Error> {
    let sql = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1::text, 0))";
    let row = client
        .query_one(sql, &[&name])
        .await
        .map_err(Error::doing(format!("taking the lock {name}")))?;
    Ok(row.get(0))
}

/// [`take`], for as long as the session of one that has just ended may still have it.
///
/// # Errors
/// The query failed.
pub async fn take_once_let_go(client: &Client, name: &str) -> Result<bool, Error> {
    let since = Instant::now();
    while !take(client, name).await? {
        if since.elapsed() > LETTING_GO {
            return Ok(false);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(true)
}
