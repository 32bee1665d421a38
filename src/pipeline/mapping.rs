//! Which fields does the index lack before the table's rows fit it? Pure.

use serde_json::{Map, Value};

/// A field whose column needs another type than the index has: the column was retyped, or the settings of the
/// documents are others than those that the index was made with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "field {path:?} is mapped as {found}, and with these document settings its column needs {wanted}"
)]
pub(super) struct Conflict {
    path: String,
    found: String,
    wanted: String,
}

/// The properties that are in `wanted` and not in `found`, as a mapping update takes them.
///
/// # Errors
/// A field is in both with different types.
pub(super) fn additions(
    found: &Map<String, Value>,
    wanted: &Map<String, Value>,
) -> Result<Map<String, Value>, Conflict> {
    at("", found, wanted)
}

fn at(
    parent: &str,
    found: &Map<String, Value>,
    wanted: &Map<String, Value>,
) -> Result<Map<String, Value>, Conflict> {
    let mut added = Map::new();
    for (name, wanted) in wanted {
        let path = if parent.is_empty() {
            name.clone()
        } else {
            format!("{parent}.{name}")
        };
        let Some(found) = found.get(name) else {
            added.insert(name.clone(), wanted.clone());
            continue;
        };
        match (properties(found), properties(wanted)) {
            (Some(found), Some(wanted)) => {
                let inner = at(&path, found, wanted)?;
                if !inner.is_empty() {
                    added.insert(name.clone(), serde_json::json!({ "properties": inner }));
                }
            }
            _ if kind(found) != kind(wanted) => {
                return Err(Conflict {
                    path,
                    found: kind(found),
                    wanted: kind(wanted),
                });
            }
            _ => {}
        }
    }
    Ok(added)
}

/// The type, with the length of a vector; Elasticsearch leaves out that an object is one.
fn kind(field: &Value) -> String {
    let kind = field
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("object");
    // OpenSearch calls it dimension.
    match field.get("dims").or_else(|| field.get("dimension")) {
        Some(dims) => format!("{kind} with {dims} dimensions"),
        None => kind.to_owned(),
    }
}

fn properties(field: &Value) -> Option<&Map<String, Value>> {
    field.get("properties").and_then(Value::as_object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "literals")]
    fn added(found: Value, wanted: Value) -> Result<Value, Conflict> {
        additions(found.as_object().unwrap(), wanted.as_object().unwrap()).map(Value::Object)
    }

    #[test]
    fn only_what_is_missing_is_added_at_any_depth() {
        let found = json!({"a": {"type": "text", "fields": {}}, "o": {"properties": {"x": {"type": "long"}}}});
        let wanted = json!({"a": {"type": "text"}, "b": {"type": "date"}, "o": {"properties": {"x": {"type": "long"}, "y": {"type": "ip"}}}});
        assert_eq!(
            added(found.clone(), wanted),
            Ok(json!({"b": {"type": "date"}, "o": {"properties": {"y": {"type": "ip"}}}}))
        );
        assert_eq!(added(found.clone(), found), Ok(json!({})));
    }

    #[test]
    fn an_object_whose_type_is_left_out_is_an_object() {
        let found = json!({"j": {"dynamic": "true", "enabled": false}});
        assert_eq!(
            added(found, json!({"j": {"type": "object", "enabled": false}})),
            Ok(json!({}))
        );
    }

    #[test]
    fn a_vector_of_another_length_is_a_conflict() {
        let vector = |dims| json!({"v": {"type": "dense_vector", "dims": dims}});
        assert!(added(vector(3), vector(4)).is_err());
        assert_eq!(added(vector(3), vector(3)), Ok(json!({})));
    }

    #[test]
    fn a_field_of_another_type_is_a_conflict() {
        let conflict = added(
            json!({"o": {"properties": {"x": {"type": "long"}}}}),
            json!({"o": {"properties": {"x": {"type": "text"}}}}),
        );
        assert_eq!(
            conflict.unwrap_err().to_string(),
            "field \"o.x\" is mapped as long, and with these document settings its column needs text"
        );
    }
}
