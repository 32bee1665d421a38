//! Every setting, declared once: flag, variable, key of the TOML file, default, range, help.
//!
//! A setting is one field of `arguments.rs`. Its variable is its name; the flag and the key are the
//! field's name (`ES_MAX_RETRIES`, `--es-max-retries`, `es_max_retries`). `layers.rs` decides which
//! source speaks: flags, then the environment, then the file, then the default. Here the answers
//! become what the rooms take, and what depends on two settings is checked.
//!
//! A secret comes from a variable, a file or the TOML file, never from a flag, where every user of
//! the machine can read it; and no error of this room repeats one.

mod arguments;
mod error;
mod layers;
mod secret;
mod values;

pub use arguments::Arguments;
pub use error::{Origin, SettingsError};
pub use layers::{Environment, Layers, Refusal, flags, layered};
pub use secret::Secret;
pub use values::{AdminAddress, LostSlot, TableName, VectorIndex};

use std::{path::PathBuf, time::Duration};

use serde_json::{Map, Value, json};
use url::Url;

use crate::{observe::logs::LogFormat, postgres};

/// All that a run is told from outside.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the rows come from.
    pub postgres: Postgres,
    /// Where the documents go.
    pub elasticsearch: Elasticsearch,
    /// How they are sent.
    pub delivery: Delivery,
    /// What they look like.
    pub document: Document,
    /// How it is watched.
    pub admin: Admin,
    /// What is logged.
    pub logs: Logs,
    /// Variables that are no setting and look like one, each with the one that was probably meant.
    pub ignored: Vec<(String, String)>,
}

/// The table and the way to it.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// How to connect.
    pub connection: postgres::Options,
    /// The table that is kept in sync.
    pub table: TableName,
    /// The column whose value is the document's `_id`, unquoted.
    pub key_column: String,
    /// The logical replication slot.
    pub slot: String,
    /// The publication, unquoted.
    pub publication: String,
    /// Rows per cursor fetch.
    pub batch_rows: u32,
    /// What is done about a lost slot.
    pub lost_slot: LostSlot,
}

/// The index and the way to it.
#[derive(Debug, Clone)]
pub struct Elasticsearch {
    /// The nodes, at least one; without user name and password.
    pub urls: Vec<Url>,
    /// Who we are there.
    pub credentials: Credentials,
    /// PEM file of the authority that signed the nodes' certificates; `None`: the system's roots.
    pub ca_cert: Option<PathBuf>,
    /// Name of the first generation of the index.
    pub index: String,
    /// The alias that is searched.
    pub alias: String,
    /// Primary shards of an index that we create.
    pub shards: u32,
    /// When a new index gets the graph of its vectors.
    pub vector_index: VectorIndex,
    /// A template of the user's own, instead of the built-in one.
    pub template: Option<PathBuf>,
}

/// How we authenticate to Elasticsearch.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Not at all.
    None,
    /// An API key, base64 of `id:key` as Elasticsearch gives it in `encoded`.
    ApiKey(Secret),
    /// Basic authentication.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    },
}

impl Credentials {
    /// The same, with what now stands in the files that the secrets came from.
    #[must_use]
    pub fn renewed(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::ApiKey(key) => Self::ApiKey(key.renewed()),
            Self::Basic { username, password } => Self::Basic {
                username: username.clone(),
                password: password.renewed(),
            },
        }
    }
}

/// How operations are sent, and what happens to those that fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Documents per bulk request, at most.
    pub batch_documents: u32,
    /// Stop at the first refused document; otherwise it becomes a dead letter.
    pub stop_at_refusal: bool,
    /// Keys that may have a dead letter.
    pub dead_letter_limit: u32,
    /// Retries of one operation before a one-shot run stops.
    pub retries_max: u32,
    /// Wait before the first retry; doubles with each. Never zero.
    pub backoff_first: Duration,
    /// Longest wait between two retries. Never below `backoff_first`.
    pub backoff_max: Duration,
}

/// The document's shape as it was declared; `document::Shape` makes sense of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Length of the embedding.
    pub embedding_dimensions: u32,
    /// The `[document]` table of the TOML file; empty when there is none.
    pub declared: toml::Table,
    /// The file that it was declared in.
    pub file: Option<PathBuf>,
}

/// How it is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// `None`: the default one, if it is free.
    pub address: Option<AdminAddress>,
    /// The lag above which it is not ready.
    pub ready_lag: Duration,
    /// The collector that spans are sent to.
    pub otlp_endpoint: Option<Url>,
}

impl Admin {
    /// Where it is when nobody has said so.
    pub const DEFAULT_ADDRESS: &str = "127.0.0.1:9464";

    /// Where it can be expected; `None` when it is off.
    #[must_use]
    pub fn expected_at(&self) -> Option<&str> {
        match &self.address {
            None => Some(Self::DEFAULT_ADDRESS),
            Some(AdminAddress::At(address)) => Some(address),
            Some(AdminAddress::Off) => None,
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// `None`: text on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
    /// A level, or directives as `tracing_subscriber::EnvFilter` reads them.
    pub filter: String,
}

impl Settings {
    /// What the layers gave, checked as a whole.
    ///
    /// # Errors
    /// Two settings contradict each other, a `…_FILE` cannot be read, or the connection parameters
    /// of PostgreSQL are wrong.
    pub fn resolve(
        mut arguments: Arguments,
        layers: &Layers,
        environment: &Environment,
    ) -> Result<Self, SettingsError> {
        let logs = Logs {
            format: arguments.logs.log_format,
            filter: std::mem::take(&mut arguments.logs.log),
        };
        let admin = Admin {
            address: arguments.admin.admin_addr.take(),
            ready_lag: Duration::from_secs_f64(arguments.admin.ready_lag_seconds),
            otlp_endpoint: arguments.admin.otlp_endpoint.take(),
        };
        let document = Document {
            embedding_dimensions: arguments.documents.embedding_dimensions,
            declared: layers.document.clone(),
            file: layers.document_file.clone(),
        };
        Ok(Self {
            delivery: delivery(&arguments, layers)?,
            postgres: postgres_settings(&arguments, layers, environment)?,
            elasticsearch: elasticsearch_settings(arguments.elasticsearch, layers)?,
            document,
            admin,
            logs,
            ignored: layers.ignored.clone(),
        })
    }

    /// The source, for the run's metadata: without any secret.
    #[must_use]
    pub fn input_db_backend_config(&self) -> Map<String, Value> {
        let postgres = &self.postgres;
        object([
            ("url", json!(postgres.connection.url_without_secrets())),
            ("table", json!(postgres.table.to_string())),
            ("key_column", json!(postgres.key_column)),
            ("slot", json!(postgres.slot)),
            ("publication", json!(postgres.publication)),
            ("batch_size", json!(postgres.batch_rows)),
        ])
    }

    /// The target, for the run's metadata: without any secret.
    #[must_use]
    pub fn output_db_backend_config(&self) -> Map<String, Value> {
        let (elasticsearch, delivery) = (&self.elasticsearch, &self.delivery);
        let urls: Vec<&str> = elasticsearch.urls.iter().map(Url::as_str).collect();
        object([
            ("urls", json!(urls)),
            ("index", json!(elasticsearch.index)),
            ("alias", json!(elasticsearch.alias)),
            ("number_of_shards", json!(elasticsearch.shards)),
            (
                "embedding_dimensions",
                json!(self.document.embedding_dimensions),
            ),
            ("batch_size", json!(delivery.batch_documents)),
            ("raise_errors", json!(delivery.stop_at_refusal)),
            ("dead_letter_limit", json!(delivery.dead_letter_limit)),
            ("max_retries", json!(delivery.retries_max)),
            (
                "retry_backoff_seconds",
                json!(delivery.backoff_first.as_secs_f64()),
            ),
            (
                "retry_max_backoff_seconds",
                json!(delivery.backoff_max.as_secs_f64()),
            ),
        ])
    }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn delivery(arguments: &Arguments, layers: &Layers) -> Result<Delivery, SettingsError> {
    let given = &arguments.delivery;
    let (first, longest) = (
        given.es_retry_backoff_seconds,
        given.es_retry_max_backoff_seconds,
    );
    if first > longest {
        return Err(SettingsError::Contradiction {
            first: layers.origin("es_retry_backoff_seconds"),
            second: layers.origin("es_retry_max_backoff_seconds"),
            problem: format!(
                "the first wait of {first} s is longer than the longest of {longest} s"
            ),
        });
    }
    // Doubling zero would retry without a pause for ever.
    let wait = |seconds| Duration::from_secs_f64(seconds).max(Duration::from_millis(1));
    Ok(Delivery {
        batch_documents: given.es_client_batch_size,
        stop_at_refusal: given.es_client_raise_errors,
        dead_letter_limit: given.dead_letter_limit,
        retries_max: given.es_max_retries,
        backoff_first: wait(first),
        backoff_max: wait(longest),
    })
}

fn postgres_settings(
    arguments: &Arguments,
    layers: &Layers,
    environment: &Environment,
) -> Result<Postgres, SettingsError> {
    let given = &arguments.postgres;
    let url = layers.secret(
        "postgres_url",
        given.postgres_url.as_ref(),
        given.postgres_url_file.as_deref(),
    )?;
    let url = url.as_ref().map(Secret::value);
    let mut connection = postgres::Options::read(url, environment)?;
    if let Some(path) = &given.postgres_ca_cert {
        connection.trust(path.clone());
    }
    let table = given.postgres_table.clone();
    let slot = given
        .slot
        .clone()
        .unwrap_or_else(|| values::slot_for(&arguments.elasticsearch.elasticsearch_index_alias));
    let publication = given
        .publication
        .clone()
        .unwrap_or_else(|| values::publication_for(&table));
    Ok(Postgres {
        connection,
        table,
        key_column: given.postgres_key_column.clone(),
        slot,
        publication,
        batch_rows: given.postgres_client_batch_size,
        lost_slot: given.lost_slot,
    })
}

fn elasticsearch_settings(
    given: arguments::ElasticsearchArguments,
    layers: &Layers,
) -> Result<Elasticsearch, SettingsError> {
    if given.elasticsearch_index_name == given.elasticsearch_index_alias {
        return Err(SettingsError::Contradiction {
            first: layers.origin("elasticsearch_index_name"),
            second: layers.origin("elasticsearch_index_alias"),
            problem: "an alias cannot have the name of its index".to_owned(),
        });
    }
    let credentials = credentials(&given, layers)?;
    Ok(Elasticsearch {
        urls: given.elasticsearch_urls,
        credentials,
        ca_cert: given.elasticsearch_ca_cert,
        index: given.elasticsearch_index_name,
        alias: given.elasticsearch_index_alias,
        shards: given.elasticsearch_number_of_shards,
        vector_index: given.vector_index,
        template: given.elasticsearch_index_template,
    })
}

fn credentials(
    given: &arguments::ElasticsearchArguments,
    layers: &Layers,
) -> Result<Credentials, SettingsError> {
    let api_key = layers.secret(
        "elasticsearch_api_key",
        given.elasticsearch_api_key.as_ref(),
        given.elasticsearch_api_key_file.as_deref(),
    )?;
    let password = layers.secret(
        "elasticsearch_password",
        given.elasticsearch_password.as_ref(),
        given.elasticsearch_password_file.as_deref(),
    )?;
    match (api_key, given.elasticsearch_username.clone(), password) {
        (None, None, None) => Ok(Credentials::None),
        (Some(key), None, None) => Ok(Credentials::ApiKey(key)),
        (None, Some(username), Some(password)) => Ok(Credentials::Basic { username, password }),
        (Some(_), _, _) => Err(SettingsError::Incomplete(
            "give either ELASTICSEARCH_API_KEY or ELASTICSEARCH_USERNAME with \
             ELASTICSEARCH_PASSWORD, not both",
        )),
        (None, Some(_), None) => Err(SettingsError::Incomplete(
            "ELASTICSEARCH_USERNAME needs ELASTICSEARCH_PASSWORD",
        )),
        (None, None, Some(_)) => Err(SettingsError::Incomplete(
            "ELASTICSEARCH_PASSWORD needs ELASTICSEARCH_USERNAME",
        )),
    }
}

#[cfg(test)]
mod tests;
