//! What covers more than one index: templates, and the alias that readers use.
//!
//! A template with `allow_auto_create: false` is what keeps a write from making an index where one
//! was deleted. The alias moves in one step and is looked at again afterwards.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Client, Error, Method,
    index::{IndexError, acknowledged},
    json as body, segment,
};

/// Stores a composable index template.
///
/// # Errors
/// The request failed, or another template of the same priority covers the same names.
pub async fn put_template(client: &Client, name: &str, template: &Value) -> Result<(), IndexError> {
    let path = format!("_index_template/{}", segment(name));
    let answer = client
        .request(Method::Put, &path, &[], Some(body(template)))
        .await?;
    acknowledged(&answer, || format!("template {name}"))
}

/// The indices behind an alias, in order of their names; empty if there is no such alias.
///
/// # Errors
/// The request failed.
pub async fn alias_targets(client: &Client, alias: &str) -> Result<Vec<String>, IndexError> {
    let path = format!("_alias/{}", segment(alias));
    match client.request(Method::Get, &path, &[], None).await {
        // It gives no error.type here: {"error":"alias [x] missing","status":404}.
        Err(Error::Refused {
            status: 404,
            reason,
            ..
        }) if reason.ends_with("missing") => Ok(Vec::new()),
        answer => {
            let found: BTreeMap<String, Value> = answer?.json()?;
            Ok(found.into_keys().collect())
        }
    }
}

/// Moves an alias from the indices it is on to another one, in one step, so that readers never see
/// none or both; then looks whether it stands there.
///
/// # Errors
/// [`IndexError::AliasElsewhere`] if it is not on exactly `from` before, or not on `to` alone after.
pub async fn swap_alias(
    client: &Client,
    name: &str,
    from: &[String],
    to: &str,
) -> Result<(), IndexError> {
    let elsewhere = |found| IndexError::AliasElsewhere {
        alias: name.to_owned(),
        expected: to.to_owned(),
        found,
    };
    let found = alias_targets(client, name).await?;
    if found == [to] {
        return Ok(());
    }
    if found.iter().any(|index| !from.contains(index)) {
        return Err(elsewhere(found));
    }
    let remove = |index| json!({"remove": {"index": index, "alias": name, "must_exist": true}});
    let mut actions: Vec<Value> = from
        .iter()
        .filter(|&index| index != to)
        .map(remove)
        .collect();
    actions.push(json!({"add": {"index": to, "alias": name}}));
    let request = body(&json!({"actions": actions}));
    failpoint!("alias-about-to-move", Error::Malformed);
    match client
        .request(Method::Post, "_aliases", &[], Some(request))
        .await
    {
        // Moved by another, or by us, and the answer was lost: the look below tells.
        Err(error) if error.is("aliases_not_found_exception") => {}
        answer => acknowledged(&answer?, || format!("alias {name}"))?,
    }
    failpoint!("alias-moved", Error::Malformed);
    let found = alias_targets(client, name).await?;
    if found == [to] {
        Ok(())
    } else {
        Err(elsewhere(found))
    }
}
