//! What can go wrong with a request, and the two questions that sort it: does it heal by itself,
//! and whose fault is it?

use std::time::Duration;

use super::verdict::{Fault, fault, never_fits};

/// A request that did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client cannot be made from its options.
    #[error("Elasticsearch's settings cannot be used: {0}")]
    Options(String),
    /// No node took the request, or the connection broke before the answer was complete; the
    /// request may have been executed.
    #[error("cannot reach Elasticsearch at {node}: {cause}")]
    Unreachable {
        /// The last node that was tried: scheme, host and port.
        node: String,
        /// The innermost cause.
        cause: String,
    },
    /// No complete answer in time; the request may still be executed.
    #[error("Elasticsearch at {node} gave no answer within {limit:?}")]
    TimedOut {
        /// The node: scheme, host and port.
        node: String,
        /// The time it was given.
        limit: Duration,
    },
    /// Elasticsearch said no.
    #[error("Elasticsearch refused {request}: {kind} ({status}): {reason}{}", remedy(*status))]
    Refused {
        /// Method and path.
        request: String,
        /// The HTTP status.
        status: u16,
        /// `error.type`, or `http_…` where the answer has none.
        kind: String,
        /// `error.reason`.
        reason: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// An answer that is not what Elasticsearch says to such a request.
    #[error("an answer that Elasticsearch does not give: {0}")]
    Malformed(String),
}

/// Refusals by the state of the cluster that end without anybody's doing. A full disk is among
/// them: the block goes when there is room again.
const HEALING_KINDS: [&str; 9] = [
    "unavailable_shards_exception",
    "no_shard_available_action_exception",
    "master_not_discovered_exception",
    "not_master_exception",
    // OpenSearch's names of the two above
    "cluster_manager_not_discovered_exception",
    "not_cluster_manager_exception",
    "node_closed_exception",
    "node_disconnected_exception",
    "search_context_missing_exception",
];

impl Error {
    /// With what is probably wrong with the address, where the cause does not say it.
    pub(super) fn with_hint(self) -> Self {
        let Self::Unreachable { node, cause } = self else {
            return self;
        };
        let hint = if cause.contains("connection closed before message completed") {
            "; is this the HTTP port of Elasticsearch, and does it want https:// in ELASTICSEARCH_URLS?"
        } else if cause.contains("Connection refused") {
            "; is Elasticsearch running there, and is that what ELASTICSEARCH_URLS names?"
        } else {
            ""
        };
        Self::Unreachable {
            cause: cause + hint,
            node,
        }
    }

    /// Whether waiting can help: nobody has to change a setting, a right or an index.
    #[must_use]
    pub fn heals(&self) -> bool {
        match self {
            Self::Options(_) => false,
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Malformed(_) => true,
            Self::Refused {
                status,
                kind,
                reason,
                ..
            } => {
                self.is_overload()
                    // Keys are renewed while we run, and not everywhere at the same moment.
                    || *status == 401
                    // Shards or nodes that are not there yet: the root cause may be left out of the
                    // answer, and 502 is that of every failed connection between nodes.
                    || matches!(status, 502..=504)
                    || HEALING_KINDS.contains(&kind.as_str())
                    || kind == "cluster_block_exception" && is_passing_block(reason)
                    || kind == &format!("http_{status}") && matches!(status, 408 | 500..=599)
            }
        }
    }

    /// Elasticsearch, or what stands before it, had no room or no time: back off, and send less.
    #[must_use]
    pub fn is_overload(&self) -> bool {
        match self {
            Self::Refused {
                status,
                kind,
                reason,
                ..
            } => {
                fault(kind, reason) == Fault::Overload
                    || matches!(
                        (*status, kind.as_str()),
                        (429, "http_429") | (503, "http_503")
                    )
            }
            Self::TimedOut { .. } => true,
            _ => false,
        }
    }

    /// The request is too large, whatever the load: its body is larger than
    /// `http.max_content_length` or what a proxy takes, or its documents (`source_bytes` of them) need
    /// more room than there ever is.
    #[must_use]
    pub fn is_too_large(&self, source_bytes: usize) -> bool {
        match self {
            Self::Refused { status: 413, .. } => true,
            Self::Refused { reason, .. } => self.is_overload() && never_fits(reason, source_bytes),
            _ => false,
        }
    }

    /// How long Elasticsearch, or what stands before it, asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether it is a refusal of this `error.type`.
    #[must_use]
    pub fn is(&self, error_type: &str) -> bool {
        matches!(self, Self::Refused { kind, .. } if kind == error_type)
    }
}

/// What mends a refusal that is about who we are.
fn remedy(status: u16) -> &'static str {
    match status {
        401 => {
            "; check ELASTICSEARCH_API_KEY, or ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD \
             (one that is renewed in the file of its …_FILE setting is taken up)"
        }
        403 => "; the role or the API key lacks a privilege, or the index is blocked",
        _ => "",
    }
}

/// Of the cluster's blocks, a disk above its flood stage and a cluster that is starting pass; one
/// that somebody set stays.
fn is_passing_block(reason: &str) -> bool {
    reason.contains("TOO_MANY_REQUESTS/12/") || reason.contains("SERVICE_UNAVAILABLE/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, kind: &str, reason: &str) -> Error {
        Error::Refused {
            request: "GET /x".to_owned(),
            status,
            kind: kind.to_owned(),
            reason: reason.to_owned(),
            retry_after: None,
        }
    }

    #[test]
    fn what_heals_by_itself_is_told_by_type_and_scope() {
        let heals = |status, kind, reason| refused(status, kind, reason).heals();
        let flood = "index [v] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded];";
        let starting = "blocked by: [SERVICE_UNAVAILABLE/1/state not recovered / initialized];";
        assert!(heals(429, "es_rejected_execution_exception", ""));
        assert!(heals(429, "cluster_block_exception", flood));
        assert!(heals(503, "cluster_block_exception", starting));
        assert!(heals(503, "master_not_discovered_exception", ""));
        assert!(heals(502, "http_502", ""));
        assert!(heals(502, "node_not_connected_exception", ""));
        assert!(heals(504, "receive_timeout_transport_exception", ""));
        assert!(heals(429, "http_429", ""));
        let set = "index [v] blocked by: [FORBIDDEN/8/index write (api)];";
        assert!(!heals(403, "cluster_block_exception", set));
        assert!(heals(401, "security_exception", "unable to authenticate"));
        assert!(!heals(403, "security_exception", "is unauthorized"));
        assert!(!heals(404, "index_not_found_exception", ""));
        assert!(!heals(400, "index_closed_exception", "closed"));
        assert!(!heals(500, "null_pointer_exception", ""));
        assert!(!heals(413, "http_413", ""));
    }

    #[test]
    fn a_body_that_is_too_large_is_told_from_overload() {
        assert!(refused(413, "http_413", "").is_too_large(0));
        assert!(!refused(413, "http_413", "").is_overload());
        assert!(refused(429, "circuit_breaking_exception", "").is_overload());
        assert!(!refused(429, "circuit_breaking_exception", "").is_too_large(1 << 30));
        assert!(refused(503, "http_503", "").is_overload());
        assert!(!refused(503, "master_not_discovered_exception", "").is_overload());
    }
}
