//! A connection to PostgreSQL that comes back when the server does.

use std::time::Duration;

use elasticsearch::http::Url;
use tokio_postgres::{Client, Error, NoTls, Row, error::SqlState, types::ToSql};

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection, and what it takes to have it again.
pub(crate) struct Steady {
    url: Url,
    client: Client,
}

impl Steady {
    /// Waits until there is a connection.
    pub(crate) async fn connect(url: Url) -> Self {
        let client = open(&url).await;
        Self { url, client }
    }

    /// The connection as it is: broken, if the server was.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The rows of a query that may be asked again.
    pub(crate) async fn query(
        &mut self,
        query: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Vec<Row> {
        loop {
            match self.client.query(query, parameters).await {
                Ok(rows) => return rows,
                Err(error) if went_away(&error) => self.reconnect().await,
                Err(error) => panic!("{query}\n{error:?}"),
            }
        }
    }

    /// Waits until there is a connection again.
    pub(crate) async fn reconnect(&mut self) {
        tokio::time::sleep(PAUSE).await;
        self.client = open(&self.url).await;
    }
}

async fn open(url: &Url) -> Client {
    loop {
        if let Ok((client, connection)) = tokio_postgres::connect(url.as_str(), NoTls).await {
            tokio::spawn(connection);
            return client;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether the server or its backend has gone, or holds a slot for one that has: asked again, it may
/// answer.
pub(crate) fn went_away(error: &Error) -> bool {
    let gone = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::OBJECT_IN_USE,
    ];
    match error.code() {
        Some(code) => gone.contains(code),
        // No answer at all.
        None => true,
    }
}
