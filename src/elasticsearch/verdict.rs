//! What became of each operation of a bulk request: judged here once, read everywhere.
//!
//! HTTP status alone cannot tell whose fault a refusal is: 400 is a poisonous document, but also a
//! closed index; 429 is overload, but also a full disk; a delete's 404 is success, but with an
//! `error` it is a missing index. So `error.type` decides, and what is not known is the system's
//! fault: nothing is set aside because it was not recognised. Pure: no I/O.

use std::borrow::Cow;

use serde::Deserialize;

use crate::change::Version;

/// Cuts an answer down to what [`judge`] reads: 25 bytes an item instead of 206.
pub const BULK_FILTER_PATH: &str =
    "errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason";

/// Bytes of a reason that are kept. Elasticsearch puts the refused value into it, however long.
const REASON_BYTES_MAX: usize = 600;

/// What became of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is done (a delete of an absent document too: its version is then remembered).
    Applied,
    /// A version at least as new is stored already; there is nothing to do.
    Superseded,
    /// The document's own fault: it will be refused however often it is sent.
    Refused {
        /// `error.type`.
        kind: String,
        /// `error.reason`, shortened.
        reason: String,
    },
    /// Elasticsearch had no room for it just now: send it again later, in its place.
    Overloaded {
        /// `error.type`.
        kind: String,
        /// `error.reason`, shortened.
        reason: String,
    },
    /// Too large for Elasticsearch even when it has nothing else to do: cut the request; a document
    /// that is alone in it will be refused however often it is sent.
    TooLarge {
        /// `error.type`.
        kind: String,
        /// `error.reason`, shortened.
        reason: String,
    },
    /// The index or the cluster is not in a state to take it: wait, and drop nothing.
    System {
        /// `error.type`, or `http_…` when there is none.
        kind: String,
        /// `error.reason`, shortened.
        reason: String,
    },
    /// The stored version lies above every version that the source can have given: another writer,
    /// or an index restored from another time.
    Foreign {
        /// The version that is stored.
        stored: Version,
    },
}

/// An answer that does not say what became of each operation. Some may have been applied; sending
/// all of them again is safe.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not the JSON of a bulk answer.
    #[error("the bulk answer cannot be read: {0}")]
    NotReadable(#[from] serde_json::Error),
    /// Not one item an operation.
    #[error("the bulk answer has {got} items for {sent} operations")]
    Count {
        /// Operations in the request.
        sent: usize,
        /// Items in the answer.
        got: usize,
    },
}

/// Judges the answer to a bulk request, one verdict an operation, in their order. A stored version
/// above `bound`, the highest that the source can have given until now, is [`Verdict::Foreign`].
///
/// # Errors
/// The answer is not one item an operation; nothing is then known.
pub fn judge(answer: &[u8], sent: Sent, bound: Version) -> Result<Vec<Verdict>, Malformed> {
    let answer: Answer<'_> = serde_json::from_slice(answer)?;
    let got = answer.items.len();
    if got != sent.operations {
        return Err(Malformed::Count {
            sent: sent.operations,
            got,
        });
    }
    Ok(answer
        .items
        .iter()
        .map(|item| verdict(item, sent.source_bytes, bound))
        .collect())
}

/// What a request had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Operations.
    pub operations: usize,
    /// Bytes of all its documents.
    pub source_bytes: usize,
}

/// Whose fault a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Document,
    Overload,
    System,
}

/// Sorts a refusal by `error.type`, and by the reason where one type has several meanings.
pub(super) fn fault(kind: &str, reason: &str) -> Fault {
    let about_document = || DOCUMENT_REASONS.iter().any(|part| reason.contains(part));
    if DOCUMENT_KINDS.contains(&kind) || kind == "illegal_argument_exception" && about_document() {
        Fault::Document
    } else if OVERLOAD_KINDS.contains(&kind) {
        Fault::Overload
    } else {
        Fault::System
    }
}

/// Whether an idle node would have had no room either (`indexing_pressure.memory.limit`, a tenth of the
/// heap). The reason names the limit, the bytes of the refused operation, and the bytes that were
/// already under way on the node. When the primary shard refuses, and its node is also the one that was
/// asked, the request's own documents (`source_bytes`) are among the latter. No answer says whether it
/// is; it is assumed as soon as at least so many bytes are under way. Where that is wrong, a document of
/// nearly the limit is taken for too large although an idle node would have room.
pub(super) fn never_fits(reason: &str, source_bytes: usize) -> bool {
    let Some(numbers) = reason.strip_prefix("rejected execution of ") else {
        return false;
    };
    let number = |name: &str| -> Option<u64> {
        let (_, tail) = numbers.split_once(name)?;
        let (_, tail) = tail.split_once('=')?;
        tail.split([',', ']', ' ']).next()?.parse().ok()
    };
    let limit = number(" max_");
    let coordinating = number(" coordinating_operation_bytes");
    let primary = number(" primary_operation_bytes").map(|bytes| {
        let own = source_bytes as u64;
        let counted = number("[coordinating_and_primary_bytes").is_some_and(|all| all >= own);
        bytes.saturating_add(if counted { own } else { 0 })
    });
    let needed = coordinating.or(primary);
    needed
        .zip(limit)
        .is_some_and(|(needed, limit)| needed > limit)
}

const DOCUMENT_KINDS: [&str; 3] = [
    "document_parsing_exception",
    // Elasticsearch before 8.8 and OpenSearch
    "mapper_parsing_exception",
    "strict_dynamic_mapping_exception",
];

/// Parts of an `illegal_argument_exception`'s reason that speak of the document. The same type also
/// says "no write index is defined for alias" and "pipeline with id … does not exist".
const DOCUMENT_REASONS: [&str; 12] = [
    "if _id is specified it must not be empty",
    "Document contains at least one immense term",
    "contains one immense field",
    "Limit of total fields",
    "Limit of mapping depth",
    "Limit of nested fields",
    "number of nested documents has exceeded the allowed limit",
    "cannot be changed from type",
    "can't merge a non object mapping",
    "field name cannot",
    "does not support vectors with",
    "different number of dimensions",
];

const OVERLOAD_KINDS: [&str; 6] = [
    "es_rejected_execution_exception",
    // OpenSearch
    "rejected_execution_exception",
    "circuit_breaking_exception",
    "too_many_requests",
    "process_cluster_event_timeout_exception",
    "timeout_exception",
];

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    items: Vec<Item<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Item<'a> {
    Index(#[serde(borrow)] Outcome<'a>),
    Delete(#[serde(borrow)] Outcome<'a>),
}

#[derive(Deserialize)]
struct Outcome<'a> {
    status: u16,
    #[serde(borrow)]
    error: Option<ItemError<'a>>,
}

#[derive(Deserialize)]
struct ItemError<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    caused_by: Option<Cause<'a>>,
}

#[derive(Deserialize)]
struct Cause<'a> {
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
}

fn verdict(item: &Item<'_>, source_bytes: usize, bound: Version) -> Verdict {
    let (outcome, deletes) = match item {
        Item::Index(outcome) => (outcome, false),
        Item::Delete(outcome) => (outcome, true),
    };
    let Some(error) = &outcome.error else {
        return match outcome.status {
            200 | 201 => Verdict::Applied,
            404 if deletes => Verdict::Applied,
            status => Verdict::System {
                kind: format!("http_{status}"),
                reason: "no error was given".to_owned(),
            },
        };
    };
    let full_reason = error.reason.as_deref().unwrap_or_default();
    if error.kind == "version_conflict_engine_exception" {
        return match stored_version(full_reason) {
            Some(stored) if stored > bound => Verdict::Foreign { stored },
            _ => Verdict::Superseded,
        };
    }
    let kind = error.kind.clone().into_owned();
    let reason = reason(error);
    match fault(&kind, full_reason) {
        Fault::Document => Verdict::Refused { kind, reason },
        Fault::Overload if never_fits(full_reason, source_bytes) => {
            Verdict::TooLarge { kind, reason }
        }
        Fault::Overload => Verdict::Overloaded { kind, reason },
        Fault::System => Verdict::System { kind, reason },
    }
}

/// From `[id]: version conflict, current version [5] is higher or equal to …`. The id can hold the
/// same words, so the last ones count.
fn stored_version(reason: &str) -> Option<Version> {
    let (_, tail) = reason.rsplit_once("current version [")?;
    let (digits, _) = tail.split_once(']')?;
    digits.parse().ok().map(Version)
}

/// The reason, with its cause when that says more, each cut to what a person reads.
fn reason(error: &ItemError<'_>) -> String {
    let reason = error.reason.as_deref().unwrap_or_default();
    let cause = error
        .caused_by
        .as_ref()
        .and_then(|cause| cause.reason.as_deref())
        .filter(|cause| !reason.contains(cause));
    match cause {
        Some(cause) => format!("{} ({})", shorten(reason), shorten(cause)),
        None => shorten(reason).into_owned(),
    }
}

fn shorten(text: &str) -> Cow<'_, str> {
    if text.len() <= REASON_BYTES_MAX {
        return text.into();
    }
    format!("{}…", &text[..text.floor_char_boundary(REASON_BYTES_MAX)]).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUND: Version = Version(1000);

    fn one(item: &str) -> Verdict {
        let answer = format!(r#"{{"errors":true,"items":[{item}]}}"#);
        let sent = Sent {
            operations: 1,
            source_bytes: 22_020_105,
        };
        judge(answer.as_bytes(), sent, BOUND).unwrap().remove(0)
    }

    /// Items as Elasticsearch 8.19.21 answered them, through [`BULK_FILTER_PATH`].
    const REAL: &str = r#"
applied    {"index":{"status":201}}
applied    {"index":{"status":200}}
applied    {"delete":{"status":200}}
applied    {"delete":{"status":404}}
system     {"index":{"status":404}}
superseded {"index":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"[0]: version conflict, current version [5] is higher or equal to the one provided [4]"}}}
superseded {"delete":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"[absent]: version conflict, current version [1000] is higher or equal to the one provided [3]"}}}
foreign    {"index":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"[0]: version conflict, current version [1001] is higher or equal to the one provided [5]"}}}
superseded {"index":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"[current version [9999]]: version conflict, current version [7] is higher or equal to the one provided [5]"}}}
refused    {"index":{"status":400,"error":{"type":"document_parsing_exception","reason":"[1:7] failed to parse field [n] of type [long] in document with id '1'. Preview of field's value: 'x'","caused_by":{"reason":"For input string: \"x\""}}}}
refused    {"index":{"status":400,"error":{"type":"strict_dynamic_mapping_exception","reason":"[1:8] mapping set to strict, dynamic introduction of [zz] within [_doc] is not allowed"}}}
refused    {"index":{"status":400,"error":{"type":"document_parsing_exception","reason":"[1:15] failed to parse: The [cosine] similarity does not support vectors with zero magnitude. Preview of invalid vector: [0.0, 0.0, 0.0]"}}}
refused    {"index":{"status":400,"error":{"type":"illegal_argument_exception","reason":"if _id is specified it must not be empty"}}}
refused    {"index":{"status":400,"error":{"type":"illegal_argument_exception","reason":"Document contains at least one immense term in field=\"k\" (whose UTF8 encoding is longer than the max length 32766)"}}}
system     {"index":{"status":400,"error":{"type":"illegal_argument_exception","reason":"no write index is defined for alias [al]. The write index may be explicitly disabled using is_write_index=false or the alias points to multiple indices without one being designated as a write index"}}}
system     {"index":{"status":400,"error":{"type":"illegal_argument_exception","reason":"pipeline with id [p] does not exist"}}}
system     {"index":{"status":400,"error":{"type":"index_closed_exception","reason":"closed"}}}
system     {"delete":{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index [composable template [g*] forbids index auto creation]"}}}
system     {"delete":{"status":403,"error":{"type":"cluster_block_exception","reason":"index [v] blocked by: [FORBIDDEN/8/index write (api)];"}}}
system     {"index":{"status":429,"error":{"type":"cluster_block_exception","reason":"index [v] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has read-only-allow-delete block];"}}}
overloaded {"index":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"rejected execution of coordinating operation"}}}
overloaded {"index":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"rejected execution of primary operation [coordinating_and_primary_bytes=62914777, replica_bytes=0, all_bytes=62914777, primary_operation_bytes=70000000, max_primary_bytes=107374182]"}}}
toolarge   {"index":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"rejected execution of primary operation [coordinating_and_primary_bytes=22020313, replica_bytes=0, all_bytes=22020313, primary_operation_bytes=88080420, max_primary_bytes=107374182]"}}}
toolarge   {"index":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"rejected execution of primary operation [coordinating_and_primary_bytes=0, replica_bytes=0, all_bytes=0, primary_operation_bytes=251658276, max_primary_bytes=107374182]"}}}
overloaded {"index":{"status":429,"error":{"type":"circuit_breaking_exception","reason":"[parent] Data too large"}}}
system     {"index":{"status":503,"error":{"type":"unavailable_shards_exception","reason":"[v][0] primary shard is not active Timeout: [1m]"}}}
system     {"index":{"status":400,"error":{"type":"an_exception_of_the_future","reason":"document refused"}}}
system     {"index":{"status":500,"error":{"type":"null_pointer_exception"}}}
"#;

    #[test]
    fn each_real_answer_has_its_verdict() {
        for line in REAL.trim().lines() {
            let (expected, item) = line.split_once(' ').unwrap();
            let found = match one(item.trim()) {
                Verdict::Applied => "applied",
                Verdict::Superseded => "superseded",
                Verdict::Refused { .. } => "refused",
                Verdict::Overloaded { .. } => "overloaded",
                Verdict::TooLarge { .. } => "toolarge",
                Verdict::System { .. } => "system",
                Verdict::Foreign { .. } => "foreign",
            };
            assert_eq!(found, expected, "{item}");
        }
    }

    #[test]
    fn a_request_that_an_idle_server_has_no_room_for_is_told_from_overload() {
        let reason = |under_way: u64, operation: u64| {
            format!(
                "rejected execution of coordinating operation [coordinating_and_primary_bytes={under_way}, replica_bytes=0, all_bytes={under_way}, coordinating_operation_bytes={operation}, max_coordinating_and_primary_bytes=53687091]"
            )
        };
        assert!(never_fits(&reason(0, 61_790_813), 61_000_000));
        assert!(!never_fits(&reason(50_000_000, 20_000_000), 20_000_000));
        // A full queue has no such numbers.
        let queue = "rejected execution of TimedRunnable on EsThreadPoolExecutor[name = node/write, queue capacity = 10000, max_ = 5]";
        assert!(!never_fits(queue, usize::MAX));
    }

    #[test]
    fn a_reason_names_its_cause_once_and_does_not_grow_with_the_value() {
        let cause = r#""caused_by":{"reason":"Document contains at least one immense term"}"#;
        let long = "ä".repeat(40_000);
        let item = format!(
            r#"{{"index":{{"status":400,"error":{{"type":"document_parsing_exception","reason":"{long}",{cause}}}}}}}"#
        );
        let Verdict::Refused { reason, .. } = one(&item) else {
            panic!("not refused");
        };
        assert!(reason.len() < 2 * REASON_BYTES_MAX, "{}", reason.len());
        assert!(reason.ends_with("… (Document contains at least one immense term)"));
    }

    fn sent(operations: usize) -> Sent {
        Sent {
            operations,
            source_bytes: 0,
        }
    }

    #[test]
    fn an_answer_that_does_not_count_its_operations_says_nothing() {
        let two =
            br#"{"errors":false,"items":[{"index":{"status":200}},{"index":{"status":200}}]}"#;
        assert_eq!(
            judge(two, sent(2), BOUND).unwrap(),
            [Verdict::Applied, Verdict::Applied]
        );
        assert!(matches!(
            judge(two, sent(3), BOUND),
            Err(Malformed::Count { sent: 3, got: 2 })
        ));
        for wrong in [
            "",
            "<html>",
            r#"{"errors":false}"#,
            r#"{"items":[{"index":{"status":200}},{"index":"#,
            r#"{"items":[{"update":{"status":200}},{"index":{"status":200}}]}"#,
        ] {
            assert!(
                matches!(
                    judge(wrong.as_bytes(), sent(2), BOUND),
                    Err(Malformed::NotReadable(_))
                ),
                "{wrong}"
            );
        }
    }

    proptest! {
        #[test]
        fn an_answer_that_was_garbled_has_a_verdict_an_operation_or_none_at_all(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let items: Vec<&str> = REAL.trim().lines().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
            let mut answer = format!(r#"{{"errors":true,"items":[{}]}}"#, items.join(",")).into_bytes();
            for (at, byte) in &flips {
                let at = at.index(answer.len());
                answer[at] = *byte;
            }
            if let Ok(verdicts) = judge(&answer, sent(items.len()), BOUND) {
                prop_assert_eq!(verdicts.len(), items.len());
            }
            answer.truncate(cut.index(answer.len()));
            prop_assert!(judge(&answer, sent(items.len()), BOUND).is_err());
        }
    }
}
