//! What is asked of PostgreSQL: databases with their slots, and sessions.

use std::str::FromStr;

use anyhow::{Context, Result};
use tokio_postgres::{Client, Config, NoTls};

/// A server, by a superuser's URL.
#[derive(Debug, Clone)]
pub struct Postgres {
    url: String,
}

impl Postgres {
    /// No connection is opened yet.
    ///
    /// # Errors
    /// It is not a URL that ends with a database's name.
    pub fn new(url: &str) -> Result<Self> {
        Config::from_str(url).context("POSTGRES_URL")?;
        let (server, _) = url
            .rsplit_once('/')
            .context("POSTGRES_URL has no database")?;
        anyhow::ensure!(server.contains("://"), "POSTGRES_URL has no database");
        Ok(Self {
            url: url.to_owned(),
        })
    }

    /// The URL of another database of the server.
    pub fn url(&self, database: &str) -> String {
        // `new` has seen the slash.
        let (server, _) = self.url.rsplit_once('/').unwrap_or_default();
        format!("{server}/{database}")
    }

    /// A session in a database.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn connect(&self, database: &str) -> Result<Client> {
        connect(&self.url(database)).await
    }

    /// A session in the database that the URL names.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn admin(&self) -> Result<Client> {
        connect(&self.url).await
    }

    /// Makes `database` anew, as a copy of `template`; its slots go with the old one.
    ///
    /// # Errors
    /// A statement failed.
    pub async fn copy_database(&self, template: &str, database: &str) -> Result<()> {
        self.drop_database(database).await?;
        let copy = format!("CREATE DATABASE {database} TEMPLATE {template}");
        Ok(self.admin().await?.batch_execute(&copy).await?)
    }

    /// Drops a database with its slots, if there is one.
    ///
    /// # Errors
    /// A statement failed.
    pub async fn drop_database(&self, database: &str) -> Result<()> {
        let admin = self.admin().await?;
        let slots = admin
            .query(
                "SELECT slot_name::text, active_pid FROM pg_replication_slots WHERE database = $1",
                &[&database],
            )
            .await?;
        for slot in slots {
            let (name, pid): (String, Option<i32>) = (slot.get(0), slot.get(1));
            if let Some(pid) = pid {
                admin
                    .execute("SELECT pg_terminate_backend($1, 5000)", &[&pid])
                    .await?;
            }
            admin
                .execute("SELECT pg_drop_replication_slot($1)", &[&name])
                .await?;
        }
        let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
        Ok(admin.batch_execute(&drop).await?)
    }
}

/// A session, whose task ends with it.
///
/// # Errors
/// It cannot be opened.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .context("connecting to PostgreSQL")?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("bench: a connection to PostgreSQL ended: {error}");
        }
    });
    Ok(client)
}
