//! Locks that PostgreSQL holds for a session: free again as soon as the session is gone, or PostgreSQL
//! has heard nothing of it for a while ([`super::Session::expire_when_silent`]).

use tokio_postgres::Client;

use super::Error;

/// Takes the lock for the rest of the session; false when another session has it.
///
/// # Errors
/// The query failed.
pub async fn take(client: &Client, name: &str) -> Result<bool, Error> {
    let sql = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1::text, 0))";
    ask(client, sql, name).await
}

/// Whether no session has the lock.
///
/// # Errors
/// The query failed.
pub async fn is_free(client: &Client, name: &str) -> Result<bool, Error> {
    // Given back at the end of the statement.
    let sql =
        "SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended($1::text, 0))";
    ask(client, sql, name).await
}

async fn ask(client: &Client, sql: &str, name: &str) -> Result<bool, Error> {
    let row = client
        .query_one(sql, &[&name])
        .await
        .map_err(Error::doing(format!("taking the lock {name}")))?;
    Ok(row.get(0))
}
