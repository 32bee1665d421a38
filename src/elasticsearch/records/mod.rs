//! What we keep of ourselves in Elasticsearch: run metadata and dead letters.
//!
//! They stand beside the data, so that they are backed up, restored and lost together with it. Both
//! indices are hidden (a search over `<alias>*` must not find them), have a strict mapping, and a
//! template of their own, which keeps users' templates off them and forbids their automatic creation:
//! a write that meets a deleted index fails instead of starting a new, empty history.

mod dead_letters;
mod run;
mod runs;

pub use dead_letters::{DeadLetter, DeadLetters, LetterPages, RefusedAction};
pub use run::{Phase, Run};
pub use runs::{RunWriter, Runs};

use serde_json::{Map, Value, json};

use super::{
    Client, Distribution, Error, Method,
    index::{Index, IndexError, acknowledged},
    json as body, put_template, segment,
};

/// Above what users give their templates: a pattern such as `<alias>*` must not take our indices.
const TEMPLATE_PRIORITY: u32 = 1_000;

/// Why a record could not be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The request failed.
    #[error(transparent)]
    Request(#[from] Error),
    /// The index of the records cannot be made or used.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Another instance has taken over this run; this one must not write or confirm anything more.
    #[error("run {run} in {index} was taken over by another instance")]
    Fenced {
        /// The metadata index.
        index: String,
        /// The run's number.
        run: u64,
    },
    /// The run's document is not there any more.
    #[error("run {run} is gone from {index}: somebody deleted or restored the index")]
    Gone {
        /// The metadata index.
        index: String,
        /// The run's number.
        run: u64,
    },
    /// What stands where a run's document should be is none that this program can have written.
    #[error(
        "run metadata in {index} cannot be read: {reason}. It was written by a newer sync-es or by hand: run that version, or `sync-es drop-slot`, then start with the next ELASTICSEARCH_INDEX_NAME and another ELASTICSEARCH_INDEX_ALIAS"
    )]
    Unreadable {
        /// The metadata index.
        index: String,
        /// What does not fit.
        reason: String,
    },
    /// A dead letter was not stored; none of them counts as stored.
    #[error("a dead letter was not stored in {index}: {kind}: {reason}")]
    NotStored {
        /// The index of the dead letters.
        index: String,
        /// `error.type`.
        kind: String,
        /// `error.reason`.
        reason: String,
        /// Whether it was for want of room.
        overload: bool,
    },
}

impl RecordsError {
    /// Whether waiting can help; see [`Error::heals`].
    #[must_use]
    pub fn heals(&self) -> bool {
        match self {
            Self::Request(error) => error.heals(),
            Self::Index(error) => error.heals(),
            Self::NotStored { overload, .. } => *overload,
            Self::Fenced { .. } | Self::Gone { .. } | Self::Unreadable { .. } => false,
        }
    }
}

/// Makes the index with its guard if it is missing, and adds fields that a newer program has.
async fn prepare(
    client: &Client,
    distribution: Distribution,
    name: &str,
    properties: Value,
) -> Result<(), RecordsError> {
    let index = Index::new(client, name);
    let Some(look) = index.look().await? else {
        let mut guard = json!({
            "index_patterns": [name],
            "priority": TEMPLATE_PRIORITY,
            "_meta": {"description": "guards the records of sync-es from being created by accident"},
        });
        // On OpenSearch a setting of the cluster says it.
        if distribution == Distribution::Elasticsearch {
            guard["allow_auto_create"] = false.into();
        }
        put_template(client, name, &guard).await?;
        return create(client, name, properties).await;
    };
    look.check_writes()?;
    let properties: Map<String, Value> = match properties {
        Value::Object(properties) => properties,
        _ => Map::new(),
    };
    Ok(index.put_properties(&properties).await?)
}

async fn create(client: &Client, name: &str, properties: Value) -> Result<(), RecordsError> {
    let request = json!({
        "settings": {
            "number_of_shards": 1,
            "auto_expand_replicas": "0-1",
            "hidden": true,
            "translog.durability": "request",
        },
        "mappings": {"dynamic": "strict", "properties": properties},
    });
    let path = segment(name).to_string();
    match client
        .request(Method::Put, &path, &[], Some(body(&request)))
        .await
    {
        // By another instance just now, or by us, and the answer was lost.
        Err(error) if error.is("resource_already_exists_exception") => Ok(()),
        answer => Ok(acknowledged(&answer?, || name.to_owned())?),
    }
}
