//! The segments of an index, and having them rewritten.
//!
//! A segment keeps the form in which it was written, whatever the mapping says since; a merge writes
//! in the form that the mapping has now. Elasticsearch does not tell a segment's form, but its name:
//! none is given twice, so a name that is still there was not rewritten.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::{Client, Error, Method, pages::Shards, segment};

/// What stands in each copy of each shard, by shard, node and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments(BTreeMap<(u32, String, String), Merging>);

/// Whether a merge is under way that replaces the segment.
type Merging = bool;

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
                    let merging = found.merge_id.is_some();
                    segments.insert((number, copy.routing.node.clone(), name), merging);
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

    /// Those of them that a merge is about to replace.
    #[must_use]
    pub fn merging(&self) -> Self {
        let mut merging = self.0.clone();
        merging.retain(|_, merging| *merging);
        Self(merging)
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

    fn shards(&self) -> usize {
        let shards: BTreeSet<u32> = self.0.keys().map(|(shard, ..)| *shard).collect();
        shards.len()
    }

    /// Has all segments of `index`, which are these, rewritten into one in each shard. Answers when
    /// that has begun.
    ///
    /// Only into one: a merge into more leaves the larger ones alone. A segment that is alone in its
    /// shard would be left too. So each shard first gets another one, of nothing but the mark of a
    /// delete: of keys that no document has, and at a version below that of every document, so that it
    /// would not even remove one.
    ///
    /// # Errors
    /// A request failed.
    pub async fn rewrite(&self, client: &Client, index: &str) -> Result<Merge, Error> {
        let deletes = marks(self.shards());
        let path = format!("{}/_bulk", segment(index));
        let query = [("filter_path", "took")];
        client
            .request(Method::Post, &path, &query, Some(deletes))
            .await?;
        let path = format!("{}/_forcemerge", segment(index));
        let query = [("max_num_segments", "1"), ("wait_for_completion", "false")];
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
    merge_id: Option<IgnoredAny>,
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

    fn segments(found: &[(u32, &str, &str, Merging)]) -> Segments {
        let found = found.iter().map(|&(shard, node, name, merging)| {
            ((shard, node.to_owned(), name.to_owned()), merging)
        });
        Segments(found.collect())
    }

    #[test]
    fn a_segment_was_rewritten_when_its_name_is_gone_from_its_copy() {
        let (a, b) = ((0, "a", "_0", false), (0, "b", "_0", false));
        let before = segments(&[a, b, (1, "a", "_1", false)]);
        let now = segments(&[
            (0, "a", "_2", false),
            (0, "b", "_0", true),
            (1, "b", "_1", false),
        ]);
        assert_eq!(before.still_in(&now), segments(&[b]));
        assert!(before.still_in(&segments(&[])).is_empty());
    }

    #[test]
    fn a_merge_replaces_the_segments_that_have_its_number() {
        let all = segments(&[(0, "a", "_0", false), (0, "a", "_1", true)]);
        assert_eq!(all.merging(), segments(&[(0, "a", "_1", true)]));
        let found: Segment = serde_json::from_str(r#"{"merge_id": "0x1f"}"#).unwrap();
        assert!(found.merge_id.is_some());
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
