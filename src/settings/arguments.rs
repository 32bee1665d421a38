//! The declarations. A field with `env` is a setting; nothing else says what settings there are.
//!
//! Doc comments are the help texts. A field of type [`SecretString`] is hidden from the help,
//! refused as a flag, and never shown in an error; its `…_file` twin is an ordinary setting.

#![expect(
    clippy::doc_markdown,
    reason = "a doc comment is the help text, read as it is"
)]

use std::path::PathBuf;

use clap::{Args, ValueHint};
use secrecy::SecretString;
use url::Url;

use super::values::{
    AdminAddress, LostSlot, TableName, VectorIndex, admin_address, collector_url, filter,
    identifier, index_name, node_url, seconds, slot, switch, table, whole,
};
use crate::observe::logs::LogFormat;

/// Every setting as it is written, before what depends on several of them is worked out.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// TOML file with settings and the document's shape
    #[arg(long, env = "SYNC_ES_CONFIG", value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) postgres: PostgresArguments,
    #[command(flatten)]
    pub(super) elasticsearch: ElasticsearchArguments,
    #[command(flatten)]
    pub(super) documents: DocumentArguments,
    #[command(flatten)]
    pub(super) delivery: DeliveryArguments,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
    #[command(flatten)]
    pub(super) logs: LogArguments,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "PostgreSQL")]
pub(super) struct PostgresArguments {
    /// How to connect to PostgreSQL: a URL or key=value pairs, as libpq reads them
    #[arg(long, env = "POSTGRES_URL", value_name = "URL", hide = true, value_parser = secret())]
    pub(super) postgres_url: Option<SecretString>,
    /// File that holds POSTGRES_URL
    ///
    /// POSTGRES_URL is a URL (postgresql://user:password@host:5432/database?sslmode=verify-full) or
    /// key=value pairs, with the PG* variables, the password file and the service file as libpq
    /// reads them. It may hold a password, so it is set in the environment, in the TOML file or in
    /// a file that is named here, never on the command line.
    #[arg(long, env = "POSTGRES_URL_FILE", value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(super) postgres_url_file: Option<PathBuf>,
    /// Table to keep in sync: table or schema.table, quoted as in SQL where needed
    #[arg(
        long,
        env = "POSTGRES_TABLE",
        value_name = "TABLE",
        default_value = "integrated_records",
        value_parser = table
    )]
    pub(super) postgres_table: TableName,
    /// Column that identifies a row and becomes the document's _id, quoted as in SQL where needed
    #[arg(
        long,
        env = "POSTGRES_KEY_COLUMN",
        value_name = "COLUMN",
        default_value = "hk",
        value_parser = identifier
    )]
    pub(super) postgres_key_column: String,
    /// Rows per fetch of the snapshot's cursor
    #[arg(
        long,
        env = "POSTGRES_CLIENT_BATCH_SIZE",
        value_name = "ROWS",
        default_value = "10000",
        value_parser = whole(1..=1_000_000)
    )]
    pub(super) postgres_client_batch_size: u32,
    /// Authority that signed PostgreSQL's certificate, a PEM file [default: sslrootcert, then the
    /// system's]
    #[arg(long, env = "POSTGRES_CA_CERT", value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(super) postgres_ca_cert: Option<PathBuf>,
    /// Logical replication slot [default: sync_es_<alias>]
    #[arg(long, env = "SYNC_ES_SLOT", value_name = "NAME", value_parser = slot)]
    pub(super) slot: Option<String>,
    /// Publication, quoted as in SQL where needed [default: sync_es_<table>]
    #[arg(long, env = "SYNC_ES_PUBLICATION", value_name = "NAME", value_parser = identifier)]
    pub(super) publication: Option<String>,
    /// When PostgreSQL has dropped the slot or its WAL: stop; compare table and index, mend what
    /// differs, and go on with a new slot; or fill the next generation of the index, which is also
    /// done after a failover
    #[arg(
        long,
        env = "SYNC_ES_LOST_SLOT",
        value_name = "WHAT",
        value_enum,
        default_value = "stop"
    )]
    pub(super) lost_slot: LostSlot,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Elasticsearch")]
pub(super) struct ElasticsearchArguments {
    /// Nodes, separated by commas
    #[arg(
        long,
        env = "ELASTICSEARCH_URLS",
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://localhost:9200",
        value_parser = node_url
    )]
    pub(super) elasticsearch_urls: Vec<Url>,
    /// API key, as Elasticsearch gives it in `encoded`
    #[arg(long, env = "ELASTICSEARCH_API_KEY", value_name = "KEY", hide = true, value_parser = secret())]
    pub(super) elasticsearch_api_key: Option<SecretString>,
    /// File that holds ELASTICSEARCH_API_KEY
    #[arg(
        long,
        env = "ELASTICSEARCH_API_KEY_FILE",
        value_name = "PATH",
        value_hint = ValueHint::FilePath
    )]
    pub(super) elasticsearch_api_key_file: Option<PathBuf>,
    /// User name, instead of an API key
    #[arg(long, env = "ELASTICSEARCH_USERNAME", value_name = "NAME")]
    pub(super) elasticsearch_username: Option<String>,
    /// Password of ELASTICSEARCH_USERNAME
    #[arg(
        long,
        env = "ELASTICSEARCH_PASSWORD",
        value_name = "PASSWORD",
        hide = true,
        value_parser = secret()
    )]
    pub(super) elasticsearch_password: Option<SecretString>,
    /// File that holds ELASTICSEARCH_PASSWORD
    #[arg(
        long,
        env = "ELASTICSEARCH_PASSWORD_FILE",
        value_name = "PATH",
        value_hint = ValueHint::FilePath
    )]
    pub(super) elasticsearch_password_file: Option<PathBuf>,
    /// Authority that signed Elasticsearch's certificate, a PEM file [default: the system's]
    #[arg(long, env = "ELASTICSEARCH_CA_CERT", value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(super) elasticsearch_ca_cert: Option<PathBuf>,
    /// First index; each later generation counts its trailing number up
    #[arg(
        long,
        env = "ELASTICSEARCH_INDEX_NAME",
        value_name = "NAME",
        default_value = "integrated_records_v1",
        value_parser = index_name
    )]
    pub(super) elasticsearch_index_name: String,
    /// Alias that is searched
    #[arg(
        long,
        env = "ELASTICSEARCH_INDEX_ALIAS",
        value_name = "NAME",
        default_value = "integrated_records",
        value_parser = index_name
    )]
    pub(super) elasticsearch_index_alias: String,
    /// Primary shards of a new index
    #[arg(
        long,
        env = "ELASTICSEARCH_NUMBER_OF_SHARDS",
        value_name = "N",
        default_value = "1",
        value_parser = whole(1..=1024)
    )]
    pub(super) elasticsearch_number_of_shards: u32,
    /// When a new index gets the graph by which vectors are searched: with each document, or once,
    /// when all rows are in and before the alias points to it
    #[arg(
        long,
        env = "SYNC_ES_VECTOR_INDEX",
        value_name = "WHEN",
        value_enum,
        default_value = "immediate"
    )]
    pub(super) vector_index: VectorIndex,
    /// Index template of your own, a JSON file [default: built in]
    #[arg(
        long,
        env = "ELASTICSEARCH_INDEX_TEMPLATE",
        value_name = "PATH",
        value_hint = ValueHint::FilePath
    )]
    pub(super) elasticsearch_index_template: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Documents")]
pub(super) struct DocumentArguments {
    /// Length of the embedding
    #[arg(
        long,
        env = "EMBEDDING_DIMENSIONS",
        value_name = "N",
        default_value = "256",
        value_parser = whole(1..=4096)
    )]
    pub(super) embedding_dimensions: u32,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Delivery")]
pub(super) struct DeliveryArguments {
    /// Documents per bulk request, at most: those that wait, up to 2 MiB of rows and to what
    /// Elasticsearch takes at present
    #[arg(
        long,
        env = "ES_CLIENT_BATCH_SIZE",
        value_name = "N",
        default_value = "500",
        value_parser = whole(1..=100_000)
    )]
    pub(super) es_client_batch_size: u32,
    /// 1: stop at the first document that Elasticsearch refuses; 0: set it aside and go on
    #[arg(
        long,
        env = "ES_CLIENT_RAISE_ERRORS",
        value_name = "0|1",
        default_value = "0",
        default_missing_value = "1",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set,
        value_parser = switch
    )]
    pub(super) es_client_raise_errors: bool,
    /// Keys that may have a dead letter; one more stops the program, and so does a run of a tenth of it
    /// (100 at least) that is refused alike
    #[arg(
        long,
        env = "SYNC_ES_DEAD_LETTER_LIMIT",
        value_name = "N",
        default_value = "10000",
        value_parser = whole(1..=1_000_000)
    )]
    pub(super) dead_letter_limit: u32,
    /// Retries before a one-shot run stops; an always-on run keeps trying
    #[arg(
        long,
        env = "ES_MAX_RETRIES",
        value_name = "N",
        default_value = "10",
        value_parser = whole(0..=1_000_000)
    )]
    pub(super) es_max_retries: u32,
    /// Wait before the first retry; it doubles with each
    #[arg(
        long,
        env = "ES_RETRY_BACKOFF_SECONDS",
        value_name = "SECONDS",
        default_value = "1.0",
        value_parser = seconds
    )]
    pub(super) es_retry_backoff_seconds: f64,
    /// Longest wait between two retries
    #[arg(
        long,
        env = "ES_RETRY_MAX_BACKOFF_SECONDS",
        value_name = "SECONDS",
        default_value = "30.0",
        value_parser = seconds
    )]
    pub(super) es_retry_max_backoff_seconds: f64,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Watching")]
pub(super) struct AdminArguments {
    /// Where /metrics, /status, /healthz, /readyz and a status page are served, or off
    /// [default: 127.0.0.1:9464 if it is free]
    ///
    /// Without this setting an address that is taken is a warning, so that a standby or a one-shot
    /// run can be started beside the service; an address that is set must be free. `sync-es status`
    /// asks this address. Whoever reaches it can read what is there: it has no password.
    #[arg(long, env = "SYNC_ES_ADMIN_ADDR", value_name = "HOST:PORT|off", value_parser = admin_address)]
    pub(super) admin_addr: Option<AdminAddress>,
    /// Lag above which /readyz says no
    #[arg(
        long,
        env = "SYNC_ES_READY_LAG_SECONDS",
        value_name = "SECONDS",
        default_value = "30.0",
        value_parser = seconds
    )]
    pub(super) ready_lag_seconds: f64,
    /// OpenTelemetry collector that takes spans, by OTLP over HTTP, such as http://127.0.0.1:4318
    ///
    /// Each bulk request, each phase, and the way of a commit to its acknowledgement become a span.
    #[arg(long, env = "SYNC_ES_OTLP_ENDPOINT", value_name = "URL", value_parser = collector_url)]
    pub(super) otlp_endpoint: Option<Url>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub(super) struct LogArguments {
    /// Form of the log lines [default: text on a terminal, json otherwise]
    #[arg(long, env = "SYNC_ES_LOG_FORMAT", value_name = "FORMAT", value_enum)]
    pub(super) log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or directives such as sync_es::delivery=debug
    #[arg(
        long,
        env = "SYNC_ES_LOG",
        value_name = "LEVEL",
        default_value = "info",
        value_parser = filter
    )]
    pub(super) log: String,
}

/// Any text is a secret; this parser's output type is what marks one.
fn secret() -> clap::builder::ValueParser {
    clap::builder::ValueParser::new(|text: &str| {
        Ok::<_, std::convert::Infallible>(SecretString::from(text.to_owned()))
    })
}
