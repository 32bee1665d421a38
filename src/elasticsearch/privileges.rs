//! May we do what has to be done? Asked of Elasticsearch itself, which answers for whoever asks.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Client, Error, Method, json as body, names::our_names};

/// What is asked of the cluster.
pub const CLUSTER: [&str; 2] = ["monitor", "manage_index_templates"];
/// What is asked of each index and alias of ours.
pub const INDEX: [&str; 3] = ["manage", "read", "write"];

/// What Elasticsearch says of the key or the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Privileges {
    /// It has no security that could be asked: everybody may do everything.
    NotEnforced,
    /// Privileges that are missing, each with the index that it is missing on, if it is one of those.
    Missing(Vec<(Option<String>, String)>),
}

/// Asks which of our privileges on `names` are missing.
///
/// # Errors
/// The request failed.
pub async fn privileges(client: &Client, names: &[String]) -> Result<Privileges, Error> {
    let request = json!({
        "cluster": CLUSTER,
        "index": [{"names": names, "privileges": INDEX}],
    });
    let path = "_security/user/_has_privileges";
    match client
        .request(Method::Post, path, &[], Some(body(&request)))
        .await
    {
        Ok(answer) => Ok(Privileges::Missing(missing(answer.json()?))),
        // Without security there is no such path, or it says that security is off.
        Err(Error::Refused {
            status: 400 | 404 | 405 | 500,
            ..
        }) => Ok(Privileges::NotEnforced),
        Err(error) => Err(error),
    }
}

/// The request that makes a key with these privileges, for every generation of the index.
#[must_use]
pub fn key_request(alias: &str, index: &str) -> String {
    let request: Value = json!({
        "name": format!("sync-es {alias}"),
        "role_descriptors": {"sync-es": {
            "cluster": CLUSTER,
            "indices": [{
                "names": our_names(alias, index),
                "privileges": INDEX,
            }],
        }},
    });
    format!("POST /_security/api_key {request}")
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    cluster: BTreeMap<String, bool>,
    #[serde(default)]
    index: BTreeMap<String, BTreeMap<String, bool>>,
}

fn missing(answer: Answer) -> Vec<(Option<String>, String)> {
    let denied = |granted: BTreeMap<String, bool>| {
        granted
            .into_iter()
            .filter_map(|(privilege, has)| (!has).then_some(privilege))
    };
    let mut missing: Vec<_> = denied(answer.cluster).map(|one| (None, one)).collect();
    for (index, granted) in answer.index {
        missing.extend(denied(granted).map(|one| (Some(index.clone()), one)));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_granted_is_missing() {
        let answer = json!({
            "username": "u", "has_all_requested": false, "application": {},
            "cluster": {"monitor": true, "manage_index_templates": false},
            "index": {
                "records": {"manage": true, "read": true, "write": true},
                "records_v1": {"manage": true, "read": true, "write": false},
            },
        });
        let on =
            |index: Option<&str>, privilege: &str| (index.map(str::to_owned), privilege.to_owned());
        assert_eq!(
            missing(serde_json::from_value(answer).unwrap()),
            [
                on(None, "manage_index_templates"),
                on(Some("records_v1"), "write")
            ]
        );
    }
}
