//! What a run is told, in the rooms' own terms, and how it ended.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    Failure, generation,
    plan::{LostSlot, Mode, Names},
};
use crate::{
    delivery::{OnRefusal, Retry},
    document::Shape,
    elasticsearch::Client,
    observe::Meter,
    postgres::{Options, Session},
};

/// All that a run needs to know, in the rooms' own terms.
#[derive(Debug, Clone)]
pub struct Job {
    /// How to run.
    pub mode: Mode,
    /// What for.
    pub role: Role,
    /// Schema and name of the table.
    pub table: (String, String),
    /// Key, publication, slot, index, alias.
    pub names: Names,
    /// How to connect to PostgreSQL.
    pub postgres: Options,
    /// The way to Elasticsearch.
    pub elasticsearch: Client,
    /// What a document looks like.
    pub shape: Shape,
    /// A user's own index template.
    pub own_template: Option<serde_json::Value>,
    /// `ELASTICSEARCH_NUMBER_OF_SHARDS`.
    pub shards: u32,
    /// `EMBEDDING_DIMENSIONS`.
    pub dimensions: u32,
    /// Load a new index without its vector graph, and build that once at the end.
    pub defer_vectors: bool,
    /// What is done when the slot is lost.
    pub lost_slot: LostSlot,
    /// Rows a cursor fetch.
    pub fetch_rows: u32,
    /// Documents a bulk request, at most.
    pub documents_max: usize,
    /// When to try again.
    pub retry: Retry,
    /// What happens to refused documents.
    pub on_refusal: OnRefusal,
    /// How both ends are reached, without secrets, for run metadata.
    pub backends: Backends,
    /// Where it is told what happens.
    pub meter: Arc<Meter>,
}

/// What a run is for.
#[derive(Debug, Clone)]
pub enum Role {
    /// It fills the generation that is at work: `first`, which the settings name, or a later one that the
    /// alias is on; and follows the alias to another.
    Serve {
        /// The settings' generation.
        first: String,
    },
    /// It fills the generation that it is told beside the one that serves.
    Rebuild {
        /// The alias may go to it.
        may_serve: watch::Receiver<bool>,
    },
}

impl Job {
    /// The same job on the generation that is at work.
    ///
    /// # Errors
    /// Elasticsearch cannot be asked.
    pub(super) async fn at_work(&self) -> Result<Self, Failure> {
        let names = match self.role {
            Role::Serve { .. } => generation::at_work(&self.elasticsearch, &self.names).await?,
            Role::Rebuild { .. } => self.names.clone(),
        };
        self.meter.serves(&names.index, &names.slot);
        Ok(self.on(names))
    }

    /// The same job, with all further sessions on the server that this one is on.
    pub(super) fn on_the_server_of(&self, session: &Session) -> Self {
        Self {
            postgres: self.postgres.on_the_server_of(session),
            ..self.clone()
        }
    }

    /// The same job on what is named so.
    pub(super) fn on(&self, names: Names) -> Self {
        Self {
            names,
            ..self.clone()
        }
    }
}

/// Descriptions of both ends without any secret.
#[derive(Debug, Clone)]
pub struct Backends {
    /// PostgreSQL.
    pub input: serde_json::Map<String, serde_json::Value>,
    /// Elasticsearch.
    pub output: serde_json::Map<String, serde_json::Value>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A one-shot run has reached its end.
    Complete,
    /// The program was asked to end; the position is stored.
    Interrupted,
}
