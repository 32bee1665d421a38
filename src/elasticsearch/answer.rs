//! One answer, read: is it a refusal, and of what kind? Pure: no I/O.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};

use super::Error;

/// An answer that is not a refusal. Its status can still be 404, where Elasticsearch says so
/// without an error: a document that is not there.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// How long it asks to wait before the next request.
    pub retry_after: Option<Duration>,
    /// The body as it came.
    pub body: Bytes,
}

/// What a cluster says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Major, minor and patch.
    pub version: (u16, u16, u16),
    /// Which of the two it is.
    pub distribution: Distribution,
    /// The cluster's name.
    pub cluster_name: String,
    /// The cluster's UUID.
    pub cluster_uuid: String,
}

/// The two that share the protocol, up to a few paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Elasticsearch.
    Elasticsearch,
    /// OpenSearch.
    OpenSearch,
}

impl Response {
    /// The body, read as JSON.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Malformed(error.to_string()))
    }

    /// The answer to `GET /`.
    pub(super) fn server(&self) -> Result<Server, Error> {
        let root: Root = self.json()?;
        let version = parse_version(&root.version.number)
            .ok_or_else(|| Error::Malformed(format!("version {:?}", root.version.number)))?;
        let distribution = match root.version.distribution.as_deref() {
            Some("opensearch") => Distribution::OpenSearch,
            _ => Distribution::Elasticsearch,
        };
        Ok(Server {
            version,
            distribution,
            cluster_name: root.cluster_name,
            cluster_uuid: root.cluster_uuid,
        })
    }

    /// A status of 400 and more is a refusal, unless it is a 404 whose JSON has no `error`.
    pub(super) fn unless_refused(self, request: impl FnOnce() -> String) -> Result<Self, Error> {
        let status = self.status;
        if status < 400 {
            return Ok(self);
        }
        let answer: Option<ErrorAnswer> = serde_json::from_slice(&self.body).ok();
        let (kind, reason) = match answer.map(|answer| answer.error) {
            Some(None) if status == 404 => return Ok(self),
            Some(Some(ErrorBody::Typed(error))) => error.most_telling(),
            Some(Some(ErrorBody::Text(reason))) => (format!("http_{status}"), Some(reason)),
            Some(None) | None => (format!("http_{status}"), None),
        };
        Err(Error::Refused {
            request: request(),
            status,
            kind,
            reason: reason.unwrap_or_else(|| "no reason was given".to_owned()),
            retry_after: self.retry_after,
        })
    }
}

/// `9.0.0-SNAPSHOT` counts as 9.0.0.
fn parse_version(number: &str) -> Option<(u16, u16, u16)> {
    let release = number.split('-').next()?;
    let mut parts = release.split('.').map(str::parse);
    let version = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );
    Some(version)
}

#[derive(Deserialize)]
struct Root {
    cluster_name: String,
    cluster_uuid: String,
    version: RootVersion,
}

#[derive(Deserialize)]
struct RootVersion {
    number: String,
    distribution: Option<String>,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorBody {
    Typed(TypedError),
    Text(String),
}

#[derive(Deserialize)]
struct TypedError {
    #[serde(rename = "type")]
    kind: String,
    reason: Option<String>,
    #[serde(default)]
    root_cause: Vec<TypedError>,
    #[serde(default)]
    failed_shards: Vec<FailedShard>,
    caused_by: Option<Box<TypedError>>,
}

#[derive(Deserialize)]
struct FailedShard {
    reason: TypedError,
}

impl TypedError {
    /// "all shards failed" says less than what failed them.
    fn most_telling(mut self) -> (String, Option<String>) {
        if self.kind == "search_phase_execution_exception" {
            let shards = self.failed_shards.drain(..).map(|shard| shard.reason);
            if let Some(cause) = self.root_cause.drain(..).chain(shards).next() {
                return (cause.kind, cause.reason);
            }
        }
        let told = self.innermost();
        let reason = match (self.reason, told) {
            (Some(reason), Some(inner)) if !reason.contains(&inner) => {
                Some(format!("{reason}: {inner}"))
            }
            (reason, inner) => reason.or(inner),
        };
        (self.kind, reason)
    }

    /// "template after composition is invalid" says less than why it is.
    fn innermost(&self) -> Option<String> {
        let mut cause = self.caused_by.as_deref()?;
        while let Some(inner) = cause.caused_by.as_deref() {
            cause = inner;
        }
        cause.reason.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(status: u16, body: &str) -> Result<Response, Error> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Response {
            status,
            retry_after: None,
            body,
        }
        .unless_refused(|| "GET /x".to_owned())
    }

    fn kind_and_reason(status: u16, body: &str) -> (String, String) {
        match read(status, body) {
            Err(Error::Refused { kind, reason, .. }) => (kind, reason),
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_refusal_is_named_by_its_type_or_else_by_its_status() {
        for (status, body, kind, reason) in [
            (
                400,
                r#"{"error":{"root_cause":[{"type":"x","reason":"y"}],"type":"index_closed_exception","reason":"closed"},"status":400}"#,
                "index_closed_exception",
                "closed",
            ),
            (
                404,
                r#"{"error":{"root_cause":[{"type":"search_context_missing_exception","reason":"No search context found for id [1]"}],"type":"search_phase_execution_exception","reason":"all shards failed"},"status":404}"#,
                "search_context_missing_exception",
                "No search context found for id [1]",
            ),
            (
                400,
                r#"{"error":{"type":"illegal_argument_exception","reason":"template is invalid","caused_by":{"type":"a","reason":"mappings","caused_by":{"type":"b","reason":"no type [lonk]"}}},"status":400}"#,
                "illegal_argument_exception",
                "template is invalid: no type [lonk]",
            ),
            (
                404,
                r#"{"error":"alias [x] missing","status":404}"#,
                "http_404",
                "alias [x] missing",
            ),
            (413, "", "http_413", "no reason was given"),
            (502, "<html>", "http_502", "no reason was given"),
            (500, "{}", "http_500", "no reason was given"),
        ] {
            assert_eq!(
                kind_and_reason(status, body),
                (kind.to_owned(), reason.to_owned())
            );
        }
    }

    #[test]
    fn a_document_that_is_not_there_is_an_answer() {
        let answer = read(404, r#"{"_index":"v","_id":"nix","found":false}"#).unwrap();
        assert_eq!(answer.status, 404);
    }

    #[test]
    fn a_cluster_says_which_of_the_two_it_is() {
        let body = r#"{"cluster_name":"c","cluster_uuid":"u","version":{"distribution":"opensearch","number":"3.1.0-SNAPSHOT"}}"#;
        let server = read(200, body).unwrap().server().unwrap();
        assert_eq!(server.version, (3, 1, 0));
        assert_eq!(server.distribution, Distribution::OpenSearch);
        let body = r#"{"cluster_name":"c","cluster_uuid":"u","version":{"number":"8.19.21"}}"#;
        let server = read(200, body).unwrap().server().unwrap();
        assert_eq!(server.version, (8, 19, 21));
        assert_eq!(server.distribution, Distribution::Elasticsearch);
        assert!(matches!(
            read(200, "{}").unwrap().server(),
            Err(Error::Malformed(_))
        ));
    }
    proptest! {
        #[test]
        fn whatever_is_answered_is_a_refusal_from_400_on(
            status in 100..600_u16,
            body in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
                "[{}\\[\\]\",:a-z0-9]{0,60}",
                r#"\{"error":(\{"type":("x"|1|null)\}|"y"|null|\[\])(,"status":4)?\}"#,
            ],
        ) {
            let read = read(status, &body);
            if status < 400 {
                prop_assert!(read.is_ok());
            } else if let Ok(response) = read {
                prop_assert_eq!(response.status, 404);
            }
        }

        #[test]
        fn no_body_is_taken_for_a_cluster_unless_it_says_so(body in "\\PC{0,80}") {
            prop_assert!(read(200, &body).unwrap().server().is_err());
        }
    }
}
