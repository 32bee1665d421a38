//! Whether a write makes the index that it does not find: `action.auto_create_index`.
//!
//! Elasticsearch's templates say it for their names (`allow_auto_create`). OpenSearch's cannot, so there
//! this setting of the cluster has to keep a write from bringing a deleted index back, empty.

use std::collections::BTreeMap;

use serde_json::Value;
use wildmatch::WildMatchPattern;

use super::{Client, Error, Method};

/// `*` stands for any text, and nothing for a single character.
type Pattern = WildMatchPattern<'*', '\0'>;

const SETTING: &str = "action.auto_create_index";

/// The setting as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoCreation {
    scope: Scope,
    setting: String,
}

/// Where the cluster's setting stands; a transient one goes over a persistent one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Until the whole cluster is restarted.
    Transient,
    /// For good, or in the nodes' own files, or nowhere.
    Persistent,
}

/// Looks at the setting.
///
/// # Errors
/// The request failed; it takes the right to read the cluster's settings.
pub async fn auto_creation(client: &Client) -> Result<AutoCreation, Error> {
    const QUERY: [(&str, &str); 3] = [
        ("include_defaults", "true"),
        ("flat_settings", "true"),
        // The name is flat, and has dots in it.
        ("filter_path", r"*.action\.auto_create_index"),
    ];
    let settings: BTreeMap<String, BTreeMap<String, Value>> = client
        .request(Method::Get, "_cluster/settings", &QUERY, None)
        .await?
        .json()?;
    let found = [
        ("transient", Scope::Transient),
        ("persistent", Scope::Persistent),
        ("defaults", Scope::Persistent),
    ]
    .into_iter()
    .find_map(|(name, scope)| Some((scope, settings.get(name)?.get(SETTING)?)));
    match found {
        None => Ok(AutoCreation::new(Scope::Persistent, "true")),
        Some((scope, value)) => text(value)
            .map(|setting| AutoCreation::new(scope, &setting))
            .ok_or_else(|| Error::Malformed(format!("{SETTING} is {value}"))),
    }
}

/// A list can be told as a text or as an array.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(all) => Some(all.to_string()),
        Value::Array(patterns) => {
            let patterns: Option<Vec<&str>> = patterns.iter().map(Value::as_str).collect();
            Some(patterns?.join(","))
        }
        _ => None,
    }
}

impl AutoCreation {
    /// From the setting's text: `true`, `false`, or patterns with `+` or `-` before them, separated by
    /// commas, of which the first that matches a name decides.
    #[must_use]
    pub fn new(scope: Scope, setting: &str) -> Self {
        Self {
            scope,
            setting: setting.to_owned(),
        }
    }

    /// Whether a write to an index that is not there makes it.
    #[must_use]
    pub fn makes(&self, index: &str) -> bool {
        match self.setting.trim() {
            "true" => true,
            "false" => false,
            patterns => patterns
                .split(',')
                .map(|pattern| match pattern.trim() {
                    pattern if pattern.starts_with('-') => (&pattern[1..], false),
                    pattern => (pattern.trim_start_matches('+'), true),
                })
                .find(|(pattern, _)| Pattern::new(pattern).matches(index))
                .is_some_and(|(_, makes)| makes),
        }
    }

    /// The request after which no write makes an index that one of these patterns matches, and every
    /// other as before.
    #[must_use]
    pub fn request_without(&self, patterns: &[String]) -> String {
        let guards = patterns.iter().map(|pattern| format!("-{pattern}"));
        let rest = match self.setting.trim() {
            "true" => Some("+*"),
            "false" => None,
            patterns => Some(patterns),
        };
        let patterns: Vec<String> = guards.chain(rest.map(str::to_owned)).collect();
        let scope = match self.scope {
            Scope::Transient => "transient",
            Scope::Persistent => "persistent",
        };
        format!(
            r#"PUT /_cluster/settings {{"{scope}":{{"{SETTING}":"{}"}}}}"#,
            patterns.join(",")
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(setting: &str) -> AutoCreation {
        AutoCreation::new(Scope::Persistent, setting)
    }

    #[test]
    fn the_first_pattern_that_matches_decides() {
        for (setting, index, makes) in [
            ("true", "records_v1", true),
            ("false", "records_v1", false),
            ("-records*,+*", "records_v1", false),
            ("-records*,+*", "logs", true),
            ("+*,-records*", "records_v1", true),
            ("logs*", "logs-1", true),
            ("logs*", "records_v1", false),
            ("+logs*, -rec*1", "records_v1", false),
        ] {
            assert_eq!(set(setting).makes(index), makes, "{setting}: {index}");
        }
    }

    #[test]
    fn a_list_is_read_whichever_form_it_has() {
        for (value, expected) in [
            (json!("-a*,+*"), Some("-a*,+*")),
            (json!(["-a*", "+*"]), Some("-a*,+*")),
            (json!(false), Some("false")),
            (json!([1]), None),
        ] {
            assert_eq!(text(&value).as_deref(), expected);
        }
    }

    #[test]
    fn what_mends_it_leaves_every_other_name_as_it_is() {
        let ours = ["records".to_owned(), "rec_v*".to_owned()];
        for (scope, setting, patterns) in [
            (Scope::Persistent, "true", "-records,-rec_v*,+*"),
            (Scope::Persistent, "false", "-records,-rec_v*"),
            (Scope::Transient, "+logs*,-*", "-records,-rec_v*,+logs*,-*"),
        ] {
            let request = AutoCreation::new(scope, setting).request_without(&ours);
            let name = format!("{scope:?}").to_lowercase();
            let expected = format!(
                r#"PUT /_cluster/settings {{"{name}":{{"action.auto_create_index":"{patterns}"}}}}"#
            );
            assert_eq!(request, expected);
            let then = set(patterns);
            assert!(!then.makes("records") && !then.makes("rec_v12"));
            assert_eq!(then.makes("logs1"), set(setting).makes("logs1"));
        }
    }
}
