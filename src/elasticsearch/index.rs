//! One index generation: made, looked at, changed, read through.
//!
//! Writes go to a concrete index, never through the alias: `require_alias` does not guard deletes,
//! and an alias can be moved under us. Every change here says what is to be, so that repeating it
//! after a lost answer is harmless.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, json};

use super::{
    Client, Distribution, Error, Look, Merge, Meta, Method, Response, Segments,
    generation::{meta_deferring, meta_of},
    json as body,
    pages::{Hit, Pages, Scan, Shards, refresh},
    segment,
};
use crate::change::{Key, Version};

/// Documents a page when only ids and versions are read: the default `index.max_result_window`.
const PAGE_SIZE: u32 = 10_000;

/// A concrete index: one generation.
#[derive(Debug, Clone)]
pub struct Index {
    client: Client,
    name: String,
}

impl Index {
    /// A handle; nothing is asked yet.
    #[must_use]
    pub fn new(client: &Client, name: &str) -> Self {
        Self {
            client: client.clone(),
            name: name.to_owned(),
        }
    }

    /// The index's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The index as it is; `None` if there is none.
    ///
    /// # Errors
    /// The name is an alias, or its `_meta` cannot be read.
    pub async fn look(&self) -> Result<Option<Look>, IndexError> {
        let query = [("flat_settings", "true")];
        let answer = self.request(Method::Get, "", &query, None).await;
        let answer = match answer {
            Err(IndexError::Request(error)) if error.is("index_not_found_exception") => {
                return Ok(None);
            }
            other => other?,
        };
        Look::read(&answer, &self.name).map(Some)
    }

    /// Makes the index, from whichever template its name matches, with our part of `_meta`. Fields in
    /// `instead` are mapped so instead of as in the template, until the index is loaded and they get
    /// the mapping in `deferred`.
    ///
    /// # Errors
    /// [`IndexError::Exists`] unless the one that exists is this one, made by a request whose
    /// answer was lost.
    pub async fn create(
        &self,
        meta: &Meta,
        instead: &Map<String, Value>,
        deferred: &Map<String, Value>,
    ) -> Result<(), IndexError> {
        let mut mappings = json!({"_meta": meta_deferring(meta, deferred)});
        if !instead.is_empty() {
            mappings["properties"] = json!(instead);
        }
        let request = json!({"mappings": mappings});
        match self.change(Method::Put, "", &request).await {
            Err(IndexError::Request(error)) if error.is("resource_already_exists_exception") => {
                let exists = || IndexError::Exists {
                    index: self.name.clone(),
                };
                let ours = self.look().await?.and_then(|look| look.meta);
                ours.filter(|ours| ours == meta)
                    .map(drop)
                    .ok_or_else(exists)
            }
            other => other,
        }
    }

    /// Deletes the index; one that is not there is as good as deleted.
    ///
    /// # Errors
    /// The request failed.
    pub async fn delete(&self) -> Result<(), IndexError> {
        match self.request(Method::Delete, "", &[], None).await {
            Err(IndexError::Request(error)) if error.is("index_not_found_exception") => Ok(()),
            answer => acknowledged(&answer?, || format!("the deletion of {}", self.name)),
        }
    }

    /// Replaces our part of `_meta` and leaves the rest as it is.
    ///
    /// # Errors
    /// The request failed, or there is no such index.
    pub async fn put_meta(&self, meta: &Meta) -> Result<(), IndexError> {
        let look = self.look().await?;
        let all = look.map_or_else(|| meta_of(meta), |look| look.with_meta(meta));
        self.change(Method::Put, "/_mapping", &json!({"_meta": all}))
            .await
    }

    /// Adds fields to the mapping; one that exists must be the same.
    ///
    /// # Errors
    /// The request failed, a field exists otherwise, or the index cannot have vectors.
    pub async fn put_properties(&self, properties: &Map<String, Value>) -> Result<(), IndexError> {
        let request = json!({"properties": properties});
        match self.change(Method::Put, "/_mapping", &request).await {
            Err(IndexError::Request(Error::Refused { reason, .. }))
                if reason.contains("index.knn setting") =>
            {
                Err(IndexError::NoVectors {
                    index: self.name.clone(),
                })
            }
            done => done,
        }
    }

    /// Notes that no field waits for its graph any more.
    ///
    /// # Errors
    /// The request failed.
    pub async fn put_nothing_deferred(&self) -> Result<(), IndexError> {
        let Some(look) = self.look().await? else {
            return Ok(());
        };
        let request = json!({"_meta": look.nothing_deferred()});
        self.change(Method::Put, "/_mapping", &request).await
    }

    /// The segments that searches see.
    ///
    /// # Errors
    /// The request failed.
    pub async fn segments(&self) -> Result<Segments, IndexError> {
        Ok(Segments::look(&self.client, &self.name).await?)
    }

    /// Has these segments of it rewritten: see [`Segments::rewrite`].
    ///
    /// # Errors
    /// A request failed.
    pub async fn rewrite(&self, segments: &Segments) -> Result<Merge, IndexError> {
        Ok(segments.rewrite(&self.client, &self.name).await?)
    }

    /// Whether `merge` is still under way.
    ///
    /// # Errors
    /// It failed, or the request did.
    pub async fn is_under_way(&self, merge: &Merge) -> Result<bool, IndexError> {
        Ok(merge.is_under_way(&self.client).await?)
    }

    /// Makes everything acknowledged until now visible to searches.
    ///
    /// # Errors
    /// The request failed, or a shard did not take part.
    pub async fn refresh(&self) -> Result<(), IndexError> {
        Ok(refresh(&self.client, &self.name).await?)
    }

    /// Number of documents that searches see.
    ///
    /// # Errors
    /// The request failed, or a shard did not take part.
    pub async fn count(&self) -> Result<u64, IndexError> {
        Ok(count(&self.client, &self.name, None).await?)
    }

    /// The version of a document as a search finds it now; `None` while none does.
    ///
    /// # Errors
    /// The request failed, or a shard did not take part.
    pub async fn found(&self, key: &Key) -> Result<Option<Version>, IndexError> {
        let search = json!({
            "size": 1,
            "query": {"ids": {"values": [key.as_str()]}},
            "version": true,
            "_source": false,
            "track_total_hits": false,
        });
        let query = [
            ("allow_partial_search_results", "false"),
            ("filter_path", "hits.hits._version"),
        ];
        let answer = self
            .request(Method::Post, "/_search", &query, Some(&search))
            .await?;
        let found: Value = answer.json()?;
        let version = found.pointer("/hits/hits/0/_version");
        Ok(version.and_then(Value::as_u64).map(Version))
    }

    /// All documents that are acknowledged now, by id and version; if `below` is given, only those
    /// of an older version.
    ///
    /// # Errors
    /// The request failed.
    pub async fn documents(
        &self,
        distribution: Distribution,
        below: Option<Version>,
    ) -> Result<Documents, IndexError> {
        let scan = Scan {
            query: None,
            source: false.into(),
            size: PAGE_SIZE,
        };
        Ok(Documents {
            pages: Pages::open(&self.client, distribution, &self.name, scan).await?,
            below,
        })
    }

    async fn change(&self, method: Method, path: &str, request: &Value) -> Result<(), IndexError> {
        let answer = self.request(method, path, &[], Some(request)).await?;
        acknowledged(&answer, || format!("{}{path}", self.name))
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        request: Option<&Value>,
    ) -> Result<Response, IndexError> {
        let path = format!("{}{path}", segment(&self.name));
        Ok(self
            .client
            .request(method, &path, query, request.map(body))
            .await?)
    }
}

/// The documents of an index, page by page.
#[derive(Debug)]
pub struct Documents {
    pages: Pages,
    below: Option<Version>,
}

impl Documents {
    /// The next documents, in no order; `None` at the end.
    ///
    /// # Errors
    /// The request failed; begin again with a new scan if the point in time is gone
    /// (`search_context_missing_exception`).
    pub async fn next(&mut self) -> Result<Option<Vec<(Key, Version)>>, IndexError> {
        while let Some(hits) = self.pages.next::<IgnoredAny>().await? {
            let wanted = |hit: &Hit<_>| self.below.is_none_or(|below| hit.version < below.0);
            let documents: Vec<_> = hits
                .iter()
                .filter(|&hit| wanted(hit))
                .map(|hit| (Key::new(&hit.id), Version(hit.version)))
                .collect();
            if !documents.is_empty() {
                return Ok(Some(documents));
            }
        }
        Ok(None)
    }
}

/// Why an index cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The request failed.
    #[error(transparent)]
    Request(#[from] Error),
    /// A name of an index belongs to an alias.
    #[error("{name} is an alias of {index}, where an index of its own is expected")]
    Alias {
        /// The name that was asked for.
        name: String,
        /// An index behind it.
        index: String,
    },
    /// Our part of `_meta` is not what any version of the program writes.
    #[error("the _meta of {index} cannot be read: {source}")]
    Meta {
        /// The index.
        index: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An index of that name exists, made by somebody else or for something else.
    #[error("{index} exists already, and was made for something else")]
    Exists {
        /// The index.
        index: String,
    },
    /// OpenSearch takes vectors only into an index that was made with `index.knn`.
    #[error(
        "{index} was made without index.knn, so it cannot have the field for vectors that came"
    )]
    NoVectors {
        /// The index.
        index: String,
    },
    /// Acknowledged writes could be lost in a crash, after PostgreSQL was told to forget them.
    #[error(
        "index.translog.durability of {index} is {durability:?}: set it to \"request\", or a crash of Elasticsearch loses acknowledged changes"
    )]
    NotDurable {
        /// The index.
        index: String,
        /// What is set.
        durability: String,
    },
    /// An ingest pipeline could change or drop documents.
    #[error(
        "{setting} of {index} is {pipeline:?}: remove it, or documents will not equal their rows"
    )]
    Pipeline {
        /// The index.
        index: String,
        /// `index.default_pipeline` or `index.final_pipeline`.
        setting: &'static str,
        /// What is set.
        pipeline: String,
    },
    /// The alias does not stand where it was put.
    #[error("alias {alias} points to {found:?}, not to {expected} alone: somebody else moved it")]
    AliasElsewhere {
        /// The alias.
        alias: String,
        /// Where it should point.
        expected: String,
        /// Where it points.
        found: Vec<String>,
    },
    /// A change that not all nodes confirmed in time.
    #[error("Elasticsearch did not acknowledge {change} in time")]
    NotAcknowledged {
        /// What was to be changed.
        change: String,
    },
}

impl IndexError {
    /// Whether waiting can help; see [`Error::heals`].
    #[must_use]
    pub fn heals(&self) -> bool {
        match self {
            Self::Request(error) => error.heals(),
            Self::NotAcknowledged { .. } => true,
            _ => false,
        }
    }
}

/// Number of documents that match a query, of those that searches see.
pub(super) async fn count(
    client: &Client,
    index: &str,
    query: Option<&Value>,
) -> Result<u64, Error> {
    let path = format!("{}/_count", segment(index));
    let request = query.map(|query| body(&json!({"query": query})));
    let counted: Counted = client
        .request(Method::Post, &path, &[], request)
        .await?
        .json()?;
    if counted.shards.failed > 0 {
        return Err(Error::Malformed(format!("{index} was counted in part")));
    }
    Ok(counted.count)
}

pub(super) fn acknowledged(
    answer: &Response,
    change: impl FnOnce() -> String,
) -> Result<(), IndexError> {
    let answer: Acknowledged = answer.json()?;
    if answer.acknowledged {
        return Ok(());
    }
    Err(IndexError::NotAcknowledged { change: change() })
}

#[derive(Deserialize)]
struct Acknowledged {
    acknowledged: bool,
}

#[derive(Deserialize)]
struct Counted {
    count: u64,
    #[serde(rename = "_shards")]
    shards: Shards,
}
