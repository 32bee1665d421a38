//! The segments of an index, and having them rewritten.
//!
//! A segment keeps the form in which it was written, whatever the mapping says since; a merge writes
//! in the form that the mapping has now. Elasticsearch does not tell a segment's form, but its name:
//! none is given twice, so a name that is still there was not rewritten.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Client, Error, Method, pages::Shards, segment};

/// Lucene's own limit of a segment that merges by themselves make
/// (`index.merge.policy.max_merged_segment`).
const SEGMENT_BYTES_MAX: u64 = 5 << 30;

/// What stands in each copy of each shard, by shard, node and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments(BTreeMap<(u32, String, String), u64>);

impl Segments {
    /// Those that searches of an index see.
    ///
    /// # Errors
    /// The request failed.
    pub async fn look(client: &Client, index: &str) -> Result<Self, Error> {
        let path = format!("{}/_segments", segment(index));
        let answer: Answer = client
            .request(Method::Get, &path, &[], None)
            .await?
            .json()?;
        let shards = answer.indices.into_values().flat_map(|index| index.shards);
        let mut segments = BTreeMap::new();
        for (number, copies) in shards {
            for copy in copies {
                for (name, found) in copy.segments {
                    segments.insert((number, copy.routing.node.clone(), name), found.bytes);
                }
            }
        }
        Ok(Self(segments))
    }

    /// Those of them that are there now too, that is, were not rewritten.
    #[must_use]
    pub fn still_in(&self, now: &Self) -> Self {
        let mut still = self.0.clone();
        still.retain(|name, _| now.0.contains_key(name));
        Self(still)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Into how many segments a shard can be merged so that none grows beyond what Elasticsearch
    /// would let it grow to; 1 at least.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        let mut copies: BTreeMap<(u32, &str), u64> = BTreeMap::new();
        for ((shard, node, _), bytes) in &self.0 {
            *copies.entry((*shard, node)).or_default() += bytes;
        }
        let largest = copies.into_values().max().unwrap_or_default();
        largest.div_ceil(SEGMENT_BYTES_MAX).max(1)
    }

    fn shards(&self) -> usize {
        let shards: BTreeSet<u32> = self.0.keys().map(|(shard, ..)| *shard).collect();
        shards.len()
    }

    /// Has all segments of `index`, which are these, rewritten into at most `into` in each shard.
    /// Answers when that has begun.
    ///
    /// A segment that is alone in its shard would be left as it is. So each shard first gets another
    /// one, of nothing but the mark of a delete: of keys that no document has, and at a version below
    /// that of every document, so that it would not even remove one.
    ///
    /// # Errors
    /// A request failed.
    pub async fn rewrite(&self, client: &Client, index: &str, into: u64) -> Result<Merge, Error> {
        let deletes = marks(self.shards());
        let path = format!("{}/_bulk", segment(index));
        let query = [("filter_path", "took")];
        client
            .request(Method::Post, &path, &query, Some(deletes))
            .await?;
        let path = format!("{}/_forcemerge", segment(index));
        let into = into.to_string();
        let query = [
            ("max_num_segments", into.as_str()),
            ("wait_for_completion", "false"),
        ];
        let answer = client.request(Method::Post, &path, &query, None).await?;
        let begun: Begun = answer.json()?;
        Ok(Merge { task: begun.task })
    }
}

/// Deletes of keys that do not exist, as many as it takes to meet every shard: one of n shards gets
/// none of them once in 10^13.
fn marks(shards: usize) -> Bytes {
    const A_SHARD: usize = 30;
    let mut body = String::new();
    for number in 0..shards * A_SHARD {
        let id = format!("sync-es/no-document/{number}");
        let action = json!({ "delete": { "_id": id, "version": 1, "version_type": "external" } });
        body.push_str(&action.to_string());
        body.push('\n');
    }
    Bytes::from(body)
}

/// A merge that was begun.
#[derive(Debug)]
pub struct Merge {
    task: String,
}

impl Merge {
    /// Whether it is still under way. One that nobody knows any more, since its node is gone, is not.
    ///
    /// # Errors
    /// It failed, or the request did.
    pub async fn is_under_way(&self, client: &Client) -> Result<bool, Error> {
        let path = format!("_tasks/{}", segment(&self.task));
        let answer = match client.request(Method::Get, &path, &[], None).await {
            Err(error) if error.is("resource_not_found_exception") => return Ok(false),
            answer => answer?,
        };
        let task: Task = answer.json()?;
        if let Some(error) = task.error {
            return Err(Error::Malformed(format!("the merge failed: {error}")));
        }
        if task.response.is_some_and(|ended| ended.shards.failed > 0) {
            return Err(Error::Malformed("a shard was not merged".to_owned()));
        }
        Ok(!task.completed)
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    indices: BTreeMap<String, Found>,
}

#[derive(Deserialize)]
struct Found {
    shards: BTreeMap<u32, Vec<Copied>>,
}

#[derive(Deserialize)]
struct Copied {
    routing: Routing,
    segments: BTreeMap<String, Segment>,
}

#[derive(Deserialize)]
struct Routing {
    node: String,
}

#[derive(Deserialize)]
struct Segment {
    #[serde(rename = "size_in_bytes")]
    bytes: u64,
}

#[derive(Deserialize)]
struct Begun {
    task: String,
}

#[derive(Deserialize)]
struct Task {
    completed: bool,
    error: Option<Value>,
    response: Option<Merged>,
}

#[derive(Deserialize)]
struct Merged {
    #[serde(rename = "_shards")]
    shards: Shards,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(found: &[(u32, &str, &str, u64)]) -> Segments {
        let found = found.iter();
        Segments(
            found
                .map(|&(shard, node, name, bytes)| {
                    ((shard, node.to_owned(), name.to_owned()), bytes)
                })
                .collect(),
        )
    }

    #[test]
    fn a_segment_was_rewritten_when_its_name_is_gone_from_its_copy() {
        let before = segments(&[(0, "a", "_0", 1), (0, "b", "_0", 1), (1, "a", "_1", 1)]);
        let now = segments(&[(0, "a", "_2", 1), (0, "b", "_0", 1), (1, "b", "_1", 1)]);
        assert_eq!(before.still_in(&now), segments(&[(0, "b", "_0", 1)]));
    }

    #[test]
    fn a_shard_is_merged_into_segments_of_the_size_that_merges_make_by_themselves() {
        let gib = 1 << 30;
        assert_eq!(segments(&[]).wanted(), 1);
        let two_copies = segments(&[(0, "a", "_0", 4 * gib), (0, "b", "_0", 4 * gib)]);
        assert_eq!(two_copies.wanted(), 1);
        let large = segments(&[
            (0, "a", "_0", gib),
            (1, "a", "_0", 5 * gib),
            (1, "a", "_1", 6 * gib),
        ]);
        assert_eq!(large.wanted(), 3);
    }

    #[test]
    fn the_marks_are_deletes_below_the_version_of_any_document() {
        let body = marks(2);
        let lines: Vec<Value> = std::str::from_utf8(&body)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 60);
        let ids: BTreeSet<&str> = lines
            .iter()
            .filter_map(|line| line["delete"]["_id"].as_str())
            .collect();
        assert_eq!(ids.len(), 60);
        for line in &lines {
            assert_eq!(line["delete"]["version"], 1);
            assert_eq!(line["delete"]["version_type"], "external");
        }
    }
}
