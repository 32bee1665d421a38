//! Dead letters: operations whose document Elasticsearch refuses, kept until a later operation of
//! their key succeeds or a person deals with them.
//!
//! A letter counts as resolved only when it is stored, so [`DeadLetters::store`] returns after
//! Elasticsearch has acknowledged each one. One letter a key and generation, under a hash of both
//! (a refused key can be too long for an `_id`), the newest operation's: an external version keeps
//! an older one from replacing it. A letter of version V is written at 2V. An operation of version W
//! that succeeds clears it by a delete at 2W - 1, which counts only if W > V; a purge of this very letter
//! is a delete at 2V + 1, which a newer letter of the key outlives.

use std::collections::HashMap;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    super::{
        Bulk, Client, Distribution, Error, Method, Verdict,
        index::count,
        pages::{Pages, Scan, refresh},
        segment,
    },
    RecordsError, prepare,
};
use crate::change::{Key, Version};

/// A document beyond this is left out of its letter: its size may be why it was refused, and the
/// row can be read again by its key.
const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// Where a request is cut. A document's quotes and backslashes take two bytes in its letter, so no
/// request passes 1 MiB, which the strictest proxies of the field still take.
const BULK_BYTES: usize = 256 << 10;

/// Letters a page, with and without their documents.
const PAGE_SIZE: u32 = 32;
const PAGE_SIZE_OF_KEYS: u32 = 5_000;

/// An operation that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Whose document.
    #[serde(serialize_with = "key_as_text", deserialize_with = "key_from_text")]
    pub key: Key,
    /// The operation's version.
    pub version: Version,
    /// What was to be done.
    pub action: RefusedAction,
    /// Elasticsearch's `error.type`, or our own word for what it would have refused.
    pub kind: String,
    /// Its reason. It can quote the document.
    pub reason: String,
    /// The document's JSON text; none for a delete, for a row that no document can be made from,
    /// and for one of more than 256 KiB, of which the reason then gives the size.
    pub document: Option<String>,
    /// The run's number.
    pub run: u64,
    /// When it was refused.
    pub at: Timestamp,
}

impl DeadLetter {
    /// Why it was refused, in one line.
    #[must_use]
    pub fn why(&self) -> String {
        format!("{}: {}", self.kind, self.reason)
    }
}

/// What was to be done with the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedAction {
    /// Write it.
    Index,
    /// Remove it.
    Delete,
}

/// The letters of one generation.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    client: Client,
    distribution: Distribution,
    index: String,
    generation: String,
}

impl DeadLetters {
    /// A handle on the letters in `index` of the generation whose index has the UUID `generation`.
    /// Those of other generations speak of other documents.
    #[must_use]
    pub fn new(client: &Client, distribution: Distribution, index: &str, generation: &str) -> Self {
        Self {
            client: client.clone(),
            distribution,
            index: index.to_owned(),
            generation: generation.to_owned(),
        }
    }

    /// Makes the index of the letters if it is missing.
    ///
    /// # Errors
    /// The request failed, or the index that exists loses acknowledged writes in a crash.
    pub async fn prepare(&self) -> Result<(), RecordsError> {
        prepare(&self.client, self.distribution, &self.index, properties()).await
    }

    /// The index that they stand in.
    #[must_use]
    pub fn index(&self) -> &str {
        &self.index
    }

    /// Stores letters. When this returns, each of them or a newer one of its key is on disk.
    ///
    /// # Errors
    /// [`RecordsError::NotStored`] and failed requests; storing all of them again is safe.
    pub async fn store(&self, letters: &[DeadLetter]) -> Result<(), RecordsError> {
        let mut bulk = Bulk::new();
        for letter in letters {
            let stored = Stored::new(letter, &self.generation);
            bulk.push_index(
                &self.id(&letter.key),
                stored_version(letter.version),
                |out| serde_json::to_writer(out, &stored),
            )
            .map_err(|error| Error::Malformed(error.to_string()))?;
            if bulk.bytes_len() >= BULK_BYTES {
                self.send(&std::mem::take(&mut bulk)).await?;
            }
        }
        self.send(&bulk).await
    }

    /// Removes the letters of keys for which an operation of this version has succeeded, unless a
    /// letter is of the same version or newer.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub async fn clear(&self, succeeded: &[(Key, Version)]) -> Result<(), RecordsError> {
        let mut bulk = Bulk::new();
        for (key, version) in succeeded {
            bulk.push_delete(
                &self.id(key),
                Version(stored_version(*version).0.saturating_sub(1)),
            );
            if bulk.bytes_len() >= BULK_BYTES {
                self.send(&std::mem::take(&mut bulk)).await?;
            }
        }
        self.send(&bulk).await
    }

    /// The keys that have letters, with the letters' versions; none also without an index.
    ///
    /// # Errors
    /// The request failed.
    pub async fn keys(&self) -> Result<HashMap<Key, Version>, RecordsError> {
        let mut keys = HashMap::new();
        let Some(mut pages) = self
            .open(json!(["key", "version"]), PAGE_SIZE_OF_KEYS)
            .await?
        else {
            return Ok(keys);
        };
        while let Some(hits) = pages.next::<KeyAndVersion>().await? {
            let found = hits.into_iter().filter_map(|hit| hit.source);
            keys.extend(found.map(|letter| (letter.key, letter.version)));
        }
        Ok(keys)
    }

    /// The letters, page by page.
    ///
    /// # Errors
    /// The request failed.
    pub async fn letters(&self) -> Result<LetterPages, RecordsError> {
        let pages = self.open(json!(true), PAGE_SIZE).await?;
        Ok(LetterPages { pages })
    }

    /// The letter of a key, if it has one.
    ///
    /// # Errors
    /// The request failed.
    pub async fn get(&self, key: &Key) -> Result<Option<DeadLetter>, RecordsError> {
        let id = self.id(key);
        let path = format!("{}/_doc/{}", segment(&self.index), segment(id.as_str()));
        let answer = match self.client.request(Method::Get, &path, &[], None).await {
            Err(error) if error.is("index_not_found_exception") => return Ok(None),
            answer => answer?,
        };
        if answer.status == 404 {
            return Ok(None);
        }
        let hit: Got = answer.json()?;
        Ok(Some(hit.letter))
    }

    /// Number of letters; 0 also without an index.
    ///
    /// # Errors
    /// The request failed.
    pub async fn count(&self) -> Result<u64, RecordsError> {
        let counted = async {
            refresh(&self.client, &self.index).await?;
            count(&self.client, &self.index, Some(&self.query())).await
        };
        match counted.await {
            Err(error) if error.is("index_not_found_exception") => Ok(0),
            counted => Ok(counted?),
        }
    }

    /// [`Self::count`] of those that searches see: nothing is refreshed for it.
    ///
    /// # Errors
    /// The request failed.
    pub async fn count_seen(&self) -> Result<u64, RecordsError> {
        match count(&self.client, &self.index, Some(&self.query())).await {
            Err(error) if error.is("index_not_found_exception") => Ok(0),
            counted => Ok(counted?),
        }
    }

    async fn open(&self, source: Value, size: u32) -> Result<Option<Pages>, RecordsError> {
        let scan = Scan {
            query: Some(self.query()),
            source,
            size,
        };
        match Pages::open(&self.client, self.distribution, &self.index, scan).await {
            Err(error) if error.is("index_not_found_exception") => Ok(None),
            pages => Ok(Some(pages?)),
        }
    }

    async fn send(&self, bulk: &Bulk) -> Result<(), RecordsError> {
        if bulk.is_empty() {
            return Ok(());
        }
        // Nothing bounds a letter's version: a higher one is a newer letter.
        let verdicts = self
            .client
            .bulk(&self.index, bulk, Version(u64::MAX))
            .await?;
        for verdict in verdicts {
            let overload = matches!(verdict, Verdict::Overloaded { .. });
            let (kind, reason) = match verdict {
                Verdict::Applied | Verdict::Superseded | Verdict::Foreign { .. } => continue,
                Verdict::Refused { kind, reason }
                | Verdict::Overloaded { kind, reason }
                | Verdict::TooLarge { kind, reason }
                | Verdict::System { kind, reason } => (kind, reason),
            };
            return Err(RecordsError::NotStored {
                index: self.index.clone(),
                kind,
                reason,
                overload,
            });
        }
        Ok(())
    }

    fn query(&self) -> Value {
        json!({"term": {"generation": self.generation}})
    }

    /// No UUID has a line break, so generation and key cannot run into each other.
    fn id(&self, key: &Key) -> Key {
        let text = format!("{}\n{key}", self.generation);
        Key::new(&BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes())))
    }
}

/// Letters that are being read.
#[derive(Debug)]
pub struct LetterPages {
    /// `None` without an index.
    pages: Option<Pages>,
}

impl LetterPages {
    /// The next letters, in no order; `None` at the end.
    ///
    /// # Errors
    /// The request failed.
    pub async fn next(&mut self) -> Result<Option<Vec<DeadLetter>>, RecordsError> {
        let Some(pages) = &mut self.pages else {
            return Ok(None);
        };
        let hits = pages.next::<DeadLetter>().await?;
        Ok(hits.map(|hits| hits.into_iter().filter_map(|hit| hit.source).collect()))
    }
}

/// The version under which a letter stands: even, so that a delete has room on either side of it.
fn stored_version(version: Version) -> Version {
    Version(version.0 << 1)
}

/// A letter as its document holds it.
#[derive(Serialize)]
struct Stored<'a> {
    generation: &'a str,
    #[serde(flatten)]
    letter: DeadLetter,
}

impl<'a> Stored<'a> {
    fn new(letter: &DeadLetter, generation: &'a str) -> Self {
        let mut letter = letter.clone();
        let too_long = letter
            .document
            .take_if(|text| text.len() > DOCUMENT_BYTES_MAX);
        if let Some(document) = too_long {
            let size = document.len();
            letter.reason = format!("{} (its {size} bytes are left out here)", letter.reason);
        }
        Self { generation, letter }
    }
}

#[derive(Deserialize)]
struct Got {
    #[serde(rename = "_source")]
    letter: DeadLetter,
}

#[derive(Deserialize)]
struct KeyAndVersion {
    #[serde(deserialize_with = "key_from_text")]
    key: Key,
    version: Version,
}

fn key_as_text<S: Serializer>(key: &Key, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(key.as_str())
}

fn key_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
    String::deserialize(deserializer).map(|text| Key::new(&text))
}

/// The mapping of a letter: what one looks for is indexed, the document and the reason (which can
/// be as long as the document) only kept.
fn properties() -> Value {
    // Four bytes a character at most, so always below Lucene's 32,766 bytes a term.
    let keyword = || json!({"type": "keyword", "ignore_above": 8191});
    let kept = || json!({"type": "text", "index": false});
    json!({
        "generation": keyword(),
        "key": keyword(),
        "version": {"type": "long"},
        "action": keyword(),
        "kind": keyword(),
        "reason": kept(),
        "document": kept(),
        "run": {"type": "long"},
        "at": {"type": "date"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(document: Option<String>) -> DeadLetter {
        DeadLetter {
            key: Key::new("k"),
            version: Version(7),
            action: RefusedAction::Index,
            kind: "document_parsing_exception".to_owned(),
            reason: "because".to_owned(),
            document,
            run: 1,
            at: "2026-11-24T23:33:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn every_field_of_a_letter_is_in_the_strict_mapping() {
        let document = json!(Stored::new(&letter(None), "uuid"));
        let fields = |value: Value| match value {
            Value::Object(fields) => fields.keys().cloned().collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        assert_eq!(fields(document), fields(properties()));
    }

    #[test]
    fn a_document_too_long_to_keep_leaves_its_size_behind() {
        let kept = Stored::new(&letter(Some("x".repeat(DOCUMENT_BYTES_MAX))), "uuid");
        assert_eq!(kept.letter.reason, "because");
        let cut = Stored::new(&letter(Some("x".repeat(DOCUMENT_BYTES_MAX + 1))), "uuid");
        assert_eq!(cut.letter.document, None);
        assert_eq!(
            cut.letter.reason,
            "because (its 262145 bytes are left out here)"
        );
    }
}
