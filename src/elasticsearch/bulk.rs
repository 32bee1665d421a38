//! Operations to the body of one bulk request.
//!
//! One (key, version) must have one content, so every action line carries `version_type=external`
//! (strict: `external_gte` would let an older request, executed late, overwrite its successor). The
//! index stands in the URL. Elasticsearch refuses a whole request for one bad `_id` or version, so
//! neither ever gets into a body. Pure: no I/O.

use std::{io::Write, ops::Range, sync::Arc};

use bytes::Bytes;

use crate::change::{Key, Version};

/// The longest `_id`, in bytes of UTF-8; a longer one fails the whole request (seen on 8.19 and 9.2:
/// `action_request_validation_exception`, no item applied).
const KEY_BYTES_MAX: usize = 512;

/// The largest external version, 2^63 − 1; a larger one fails the whole request.
const VERSION_MAX: u64 = i64::MAX.unsigned_abs();

/// Why a key cannot be a document's `_id`, if it cannot. Ask before pushing: the row is then a
/// matter for a dead letter.
#[must_use]
pub fn key_problem(key: &Key) -> Option<&'static str> {
    match key.as_str().len() {
        0 => Some("the key is empty, which Elasticsearch does not take as an _id"),
        1..=KEY_BYTES_MAX => None,
        _ => Some("the key is longer than the 512 bytes that Elasticsearch allows for an _id"),
    }
}

/// The operations of one bulk request, encoded as they are pushed.
#[derive(Debug, Clone, Default)]
pub struct Bulk {
    body: Body,
    items: Vec<Item>,
}

/// What is known of an operation once it is bytes.
#[derive(Debug, Clone)]
struct Item {
    key: Key,
    version: Version,
    /// Action line, and for an index operation the document's line.
    lines: Range<usize>,
    /// The document without its line break; `None` for a delete.
    source: Option<Range<usize>>,
}

/// The request's bytes, shared with the requests that are under way, so that sending again copies
/// nothing.
#[derive(Debug, Clone, Default)]
struct Body(Arc<Vec<u8>>);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Bulk {
    /// A request without operations.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends "this key's document becomes what `encode` writes" (one line of JSON without a line
    /// break), and hands on what `encode` says.
    ///
    /// # Errors
    /// What `encode` fails with; nothing of the operation then stays in the request.
    ///
    /// # Panics
    /// The key has a [`key_problem`], or the version is 2^63 or more: the whole request would fail.
    pub fn push_index<T, E>(
        &mut self,
        key: &Key,
        version: Version,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
    ) -> Result<T, E> {
        let body = Arc::make_mut(&mut self.body.0);
        let start = body.len();
        write_action(body, "index", key, version);
        let source_start = body.len();
        let encoded = match encode(body) {
            Ok(encoded) => encoded,
            Err(error) => {
                body.truncate(start);
                return Err(error);
            }
        };
        let source = source_start..body.len();
        debug_assert!(
            !body[source.clone()].contains(&b'\n'),
            "one document, one line"
        );
        body.push(b'\n');
        self.items.push(Item {
            key: key.clone(),
            version,
            lines: start..body.len(),
            source: Some(source),
        });
        Ok(encoded)
    }

    /// Appends "this key's document goes".
    ///
    /// # Panics
    /// As [`Self::push_index`].
    pub fn push_delete(&mut self, key: &Key, version: Version) {
        let body = Arc::make_mut(&mut self.body.0);
        let start = body.len();
        write_action(body, "delete", key, version);
        self.items.push(Item {
            key: key.clone(),
            version,
            lines: start..body.len(),
            source: None,
        });
    }

    /// Number of operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Size of the body in bytes.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.body.0.len()
    }

    /// Bytes of all documents, without the lines that say what to do with them.
    #[must_use]
    pub fn source_bytes(&self) -> usize {
        let sources = self.items.iter().filter_map(|item| item.source.as_ref());
        sources.map(Range::len).sum()
    }

    /// How many operations from the first on have room in a body of `bytes`.
    #[must_use]
    pub fn fitting(&self, bytes: usize) -> usize {
        self.items.partition_point(|item| item.lines.end <= bytes)
    }

    /// The request's body. Cheap: it is shared, not copied (a push while it is shared copies it).
    #[must_use]
    pub fn body(&self) -> Bytes {
        Bytes::from_owner(self.body.clone())
    }

    /// Whose document operation `i` is about.
    ///
    /// # Panics
    /// There is no such operation; so for the two below.
    #[must_use]
    pub fn key(&self, i: usize) -> &Key {
        &self.items[i].key
    }

    /// The version that operation `i` carries.
    #[must_use]
    pub fn version(&self, i: usize) -> Version {
        self.items[i].version
    }

    /// The document that operation `i` writes; `None` for a delete.
    #[must_use]
    pub fn source(&self, i: usize) -> Option<&[u8]> {
        self.items[i].source.clone().map(|span| &self.body.0[span])
    }

    /// A request of these operations alone, in the order given: what is left to do after some of
    /// them have been resolved.
    ///
    /// # Panics
    /// There is no such operation.
    #[must_use]
    pub fn select(&self, chosen: &[usize]) -> Self {
        let size = chosen.iter().map(|&i| self.items[i].lines.len()).sum();
        let mut body = Vec::with_capacity(size);
        let mut items = Vec::with_capacity(chosen.len());
        for &i in chosen {
            let item = &self.items[i];
            let start = body.len();
            body.extend_from_slice(&self.body.0[item.lines.clone()]);
            let moved = |at: usize| at - item.lines.start + start;
            items.push(Item {
                key: item.key.clone(),
                version: item.version,
                lines: start..body.len(),
                source: item
                    .source
                    .clone()
                    .map(|span| moved(span.start)..moved(span.end)),
            });
        }
        Self {
            body: Body(Arc::new(body)),
            items,
        }
    }
}

fn write_action(body: &mut Vec<u8>, action: &str, key: &Key, version: Version) {
    assert!(
        key_problem(key).is_none(),
        "a key that fails the whole request"
    );
    assert!(
        version.0 <= VERSION_MAX,
        "version {version} fails the whole request"
    );
    body.extend_from_slice(b"{\"");
    body.extend_from_slice(action.as_bytes());
    body.extend_from_slice(b"\":{\"_id\":\"");
    write_escaped(body, key.as_str());
    body.extend_from_slice(b"\",\"version\":");
    body.extend_from_slice(itoa::Buffer::new().format(version.0).as_bytes());
    body.extend_from_slice(b",\"version_type\":\"external\"}}\n");
}

/// The inside of a JSON string (RFC 8259, section 7): quote, backslash and control characters are
/// escaped, so that no key can end its line or its string.
fn write_escaped(body: &mut Vec<u8>, text: &str) {
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => body.extend_from_slice(&[b'\\', byte]),
            // Writing to a vector cannot fail.
            0..0x20 => drop(write!(body, "\\u{byte:04x}")),
            _ => body.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn with(operations: &[(&str, u64, Option<&str>)]) -> Bulk {
        let mut bulk = Bulk::new();
        for &(key, version, source) in operations {
            push(&mut bulk, &Key::new(key), version, source);
        }
        bulk
    }

    fn push(bulk: &mut Bulk, key: &Key, version: u64, source: Option<&str>) {
        match source {
            Some(text) => bulk
                .push_index(key, Version(version), |out| {
                    out.extend_from_slice(text.as_bytes());
                    Ok::<_, Infallible>(())
                })
                .unwrap(),
            None => bulk.push_delete(key, Version(version)),
        }
    }

    fn text(bulk: &Bulk) -> String {
        String::from_utf8(bulk.body().to_vec()).unwrap()
    }

    #[test]
    fn the_body_has_an_action_line_and_a_document_line_an_operation() {
        let bulk = with(&[("a", 7, Some(r#"{"n":1}"#)), ("b/c", 8, None)]);
        let expected = concat!(
            r#"{"index":{"_id":"a","version":7,"version_type":"external"}}"#,
            "\n",
            r#"{"n":1}"#,
            "\n",
            r#"{"delete":{"_id":"b/c","version":8,"version_type":"external"}}"#,
            "\n",
        );
        assert_eq!(text(&bulk), expected);
        assert_eq!((bulk.len(), bulk.bytes_len()), (2, expected.len()));
        assert_eq!(bulk.source(0), Some(br#"{"n":1}"#.as_slice()));
        assert_eq!(bulk.source(1), None);
        assert_eq!((bulk.key(1).as_str(), bulk.version(1)), ("b/c", Version(8)));
    }

    #[test]
    fn an_operation_whose_document_cannot_be_encoded_leaves_nothing_behind() {
        let mut bulk = with(&[("a", 1, Some("{}"))]);
        let before = text(&bulk);
        let failed = bulk.push_index(&Key::new("b"), Version(2), |out| {
            out.extend_from_slice(b"{\"half");
            Err::<(), _>("no")
        });
        assert_eq!(failed, Err("no"));
        assert_eq!(text(&bulk), before);
        assert_eq!(bulk.len(), 1);
    }

    #[test]
    fn a_selection_has_the_chosen_operations_and_their_documents_alone() {
        let all = with(&[("a", 1, Some("{}")), ("b", 2, None), ("c", 3, Some("[3]"))]);
        assert_eq!(all.source_bytes(), 5);
        assert_eq!(all.fitting(all.bytes_len()), 3);
        assert_eq!(all.fitting(all.bytes_len() - 1), 2);
        assert_eq!(all.fitting(0), 0);
        let some = all.select(&[2, 1]);
        assert_eq!(
            text(&some),
            text(&with(&[("c", 3, Some("[3]")), ("b", 2, None)]))
        );
        assert_eq!(some.source(0), Some(b"[3]".as_slice()));
        assert_eq!(some.select(&[1]).key(0).as_str(), "b");
    }

    #[test]
    fn a_body_that_is_under_way_does_not_change_when_more_is_pushed() {
        let mut bulk = with(&[("a", 1, None)]);
        let sent = bulk.body();
        push(&mut bulk, &Key::new("b"), 2, None);
        assert_eq!(sent, with(&[("a", 1, None)]).body());
        assert_eq!(bulk.len(), 2);
    }

    #[test]
    fn a_key_is_refused_before_it_can_fail_its_neighbours() {
        assert!(key_problem(&Key::new("")).is_some());
        assert!(key_problem(&Key::new(&"x".repeat(512))).is_none());
        assert!(key_problem(&Key::new(&"ä".repeat(257))).is_some());
    }

    #[test]
    #[should_panic(expected = "fails the whole request")]
    fn a_version_that_elasticsearch_cannot_hold_never_enters_a_body() {
        Bulk::new().push_delete(&Key::new("a"), Version(1 << 63));
    }

    proptest! {
        #[test]
        fn any_key_comes_back_from_its_action_line(key in "[\\PC\u{0}-\u{1f}\"\\\\\u{2028}]{1,120}") {
            let bulk = with(&[(&key, 1, None)]);
            let body = text(&bulk);
            prop_assert_eq!(body.matches('\n').count(), 1);
            let line: serde_json::Value = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(line["delete"]["_id"].as_str(), Some(key.as_str()));
        }
    }
}
