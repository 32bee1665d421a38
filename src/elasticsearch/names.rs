//! What covers more than one index: templates, and the alias that readers use.
//!
//! A template with `allow_auto_create: false` is what keeps a write from making an index where one
//! was deleted. The alias moves in one step and is looked at again afterwards.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Client, Error, Look, Method,
    index::{IndexError, acknowledged},
    json as body, segment,
};

/// Patterns for all that is ours: the alias, every generation of the index, and our records.
#[must_use]
pub fn our_names(alias: &str, index: &str) -> [String; 3] {
    let stem = index.trim_end_matches(|last: char| last.is_ascii_digit());
    let generations = match stem {
        // A name of digits alone has no stem: `*` would be everybody's.
        "" => index.to_owned(),
        stem if stem == index => index.to_owned(),
        stem => format!("{stem}*"),
    };
    [alias.to_owned(), generations, format!("{alias}-sync-*")]
}

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

/// The indices whose names match a pattern, in the order of their names.
///
/// # Errors
/// The request failed.
pub async fn indices(client: &Client, pattern: &str) -> Result<Vec<Look>, IndexError> {
    let query = [("flat_settings", "true"), ("expand_wildcards", "open")];
    let answer = client
        .request(Method::Get, &segment(pattern).to_string(), &query, None)
        .await?;
    Look::read_all(&answer)
}

/// Where an alias goes.
#[derive(Debug)]
pub struct Move<'a> {
    /// The alias.
    pub alias: &'a str,
    /// The indices that it is on.
    pub from: &'a [String],
    /// The index that it is to be on alone.
    pub to: &'a str,
    /// Another alias, which goes to the index that this one leaves.
    pub previous: Option<&'a str>,
}

/// Moves an alias from the indices it is on to another one, in one step, so that readers never see
/// none or both; then looks whether it stands there.
///
/// # Errors
/// [`IndexError::AliasElsewhere`] if it is not on exactly `from` before, or not on `to` alone after.
pub async fn swap_alias(client: &Client, swap: &Move<'_>) -> Result<(), IndexError> {
    let Move {
        alias, from, to, ..
    } = *swap;
    let elsewhere = |found| IndexError::AliasElsewhere {
        alias: alias.to_owned(),
        expected: to.to_owned(),
        found,
    };
    let found = alias_targets(client, alias).await?;
    if found == [to] {
        return Ok(());
    }
    if found.iter().any(|index| !from.contains(index)) {
        return Err(elsewhere(found));
    }
    let before = match swap.previous {
        Some(name) => alias_targets(client, name).await?,
        None => Vec::new(),
    };
    let request = body(&json!({"actions": actions(swap, &before)}));
    failpoint!("alias-about-to-move", Error::Malformed);
    match client
        .request(Method::Post, "_aliases", &[], Some(request))
        .await
    {
        // Moved by another, or by us, and the answer was lost: the look below tells.
        Err(error) if error.is("aliases_not_found_exception") => {}
        answer => acknowledged(&answer?, || format!("alias {alias}"))?,
    }
    failpoint!("alias-moved", Error::Malformed);
    let found = alias_targets(client, alias).await?;
    if found == [to] {
        Ok(())
    } else {
        Err(elsewhere(found))
    }
}

/// `before` is what the alias `previous` is on until now.
fn actions(swap: &Move<'_>, before: &[String]) -> Vec<Value> {
    let remove = |index: &String, alias| json!({"remove": {"index": index, "alias": alias, "must_exist": true}});
    let add = |index: &str, alias| json!({"add": {"index": index, "alias": alias}});
    let mut actions = Vec::new();
    if let Some(name) = swap.previous {
        actions.extend(before.iter().map(|index| remove(index, name)));
        // Of several indices none is the one that was left.
        if let [left] = swap.from {
            actions.push(add(left, name));
        }
    }
    let leaves = swap.from.iter().filter(|&index| index != swap.to);
    actions.extend(leaves.map(|index| remove(index, swap.alias)));
    actions.push(add(swap.to, swap.alias));
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_another_is_among_ours() {
        for (index, generations) in [("r_v1", "r_v*"), ("heap", "heap"), ("2024", "2024")] {
            let expected = ["r", generations, "r-sync-*"];
            assert_eq!(our_names("r", index), expected);
        }
    }

    #[test]
    fn both_aliases_move_in_one_step() {
        let from = ["v2".to_owned()];
        let swap = Move {
            alias: "records",
            from: &from,
            to: "v3",
            previous: Some("records-before"),
        };
        let told = |actions: &[Value]| -> Vec<String> {
            let one = |action: &Value| {
                let (what, of) = action.as_object().unwrap().iter().next().unwrap();
                format!("{what} {} {}", of["alias"], of["index"]).replace('"', "")
            };
            actions.iter().map(one).collect()
        };
        assert_eq!(
            told(&actions(&swap, &["v1".to_owned()])),
            [
                "remove records-before v1",
                "add records-before v2",
                "remove records v2",
                "add records v3",
            ]
        );
        let alone = Move {
            previous: None,
            ..swap
        };
        assert_eq!(
            told(&actions(&alone, &[])),
            ["remove records v2", "add records v3"]
        );
    }
}
