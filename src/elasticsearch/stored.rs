//! Documents by their ids, as they are at this moment, whether searches see them yet or not.

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{Distribution, Error, Index, IndexError, Method, Server, json as body, segment};
use crate::change::{Key, Version};

/// A document.
#[derive(Debug)]
pub struct Stored {
    /// Its id.
    pub key: Key,
    /// Its external version.
    pub version: Version,
    /// Its source, one JSON object.
    pub source: Box<RawValue>,
}

impl Index {
    /// Those of the documents with these ids that exist, in no order. None of the ids may be empty.
    ///
    /// # Errors
    /// The request failed, or one of the documents could not be read.
    pub async fn stored(&self, keys: &[Key], server: &Server) -> Result<Vec<Stored>, IndexError> {
        let path = format!("{}/_mget", segment(self.name()));
        let ids: Vec<&str> = keys.iter().map(Key::as_str).collect();
        // From 9.2 on, a document comes without its vectors unless they are asked for.
        let whole = [("_source_exclude_vectors", "false")];
        let (major, minor, _) = server.version;
        let query =
            if server.distribution == Distribution::Elasticsearch && (major, minor) >= (9, 2) {
                &whole[..]
            } else {
                &[]
            };
        let request = body(&json!({"ids": ids}));
        let answer = self
            .client()
            .request(Method::Post, &path, query, Some(request))
            .await?;
        let answer: Answer = answer.json()?;
        let documents = answer.docs.into_iter().filter_map(Document::read);
        Ok(documents.collect::<Result<_, _>>()?)
    }

    /// The ids of so many documents that searches see, at most 10,000, each as likely as any other.
    ///
    /// # Errors
    /// The request failed.
    pub async fn random_ids(&self, count: u32) -> Result<Vec<Key>, IndexError> {
        let path = format!("{}/_search", segment(self.name()));
        let query = [
            ("allow_partial_search_results", "false"),
            ("filter_path", "hits.hits._id"),
        ];
        let request = body(&json!({
            "size": count,
            "query": {"function_score": {"random_score": {}}},
            "_source": false,
            "track_total_hits": false,
        }));
        let answer = self
            .client()
            .request(Method::Post, &path, &query, Some(request))
            .await?;
        let found: Found = answer.json()?;
        let hits = found.hits.unwrap_or_default().hits;
        Ok(hits.iter().map(|hit| Key::new(&hit.id)).collect())
    }
}

/// Absent from a filtered answer without hits.
#[derive(Deserialize)]
struct Found {
    hits: Option<Hits>,
}

#[derive(Deserialize, Default)]
struct Hits {
    #[serde(default)]
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_id")]
    id: String,
}

#[derive(Deserialize)]
struct Answer {
    docs: Vec<Document>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_version")]
    version: Option<u64>,
    #[serde(default)]
    found: bool,
    #[serde(rename = "_source")]
    source: Option<Box<RawValue>>,
    error: Option<Value>,
}

impl Document {
    fn read(self) -> Option<Result<Stored, Error>> {
        let malformed = |why: &str| {
            Some(Err(Error::Malformed(format!(
                "document {:?} {why}",
                self.id
            ))))
        };
        if let Some(error) = self.error {
            return malformed(&format!("could not be read: {error}"));
        }
        if !self.found {
            return None;
        }
        let (Some(version), Some(source)) = (self.version, self.source) else {
            return malformed("came without its version or its source");
        };
        Some(Ok(Stored {
            key: Key::new(&self.id),
            version: Version(version),
            source,
        }))
    }
}
