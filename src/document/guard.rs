//! Does an index template keep what is promised? Asked of a user's own template before it is put,
//! since what it lacks would show as data lost or as every document refused. Pure.

use serde_json::{Value as Json, json};
use wildmatch::WildMatchPattern;

use super::{
    dialect::Dialect,
    layout::{Content, Layout, Node},
    mapping,
    template::{TemplateOptions, fill, keep_vectors_in_source, setting},
};

/// A user's template that would not hold what is promised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A placeholder that stands for nothing.
    #[error(
        "the index template has the placeholder {0:?}; there are \"${{INDEX_PATTERNS}}\", \
         \"${{ELASTICSEARCH_NUMBER_OF_SHARDS}}\" and \"${{EMBEDDING_DIMENSIONS}}\""
    )]
    Placeholder(String),
    /// A setting that guards the data is missing or differs.
    #[error("the index template needs {needs}: {reason}")]
    Guard {
        /// The setting and its value.
        needs: &'static str,
        /// What would happen otherwise.
        reason: &'static str,
    },
    /// A name of ours is not under the template.
    #[error(
        "the index template's index_patterns do not match {0:?}; \
         write \"index_patterns\": \"${{INDEX_PATTERNS}}\""
    )]
    Pattern(String),
    /// A field that the strict mapping would refuse.
    #[error(
        "the index template's strict mapping has no field {path:?}: every document would be \
         refused; add it (derived from the table it is {mapping}) or drop the column from the \
         document"
    )]
    Field {
        /// The field.
        path: String,
        /// The mapping that follows from its column.
        mapping: String,
    },
    /// A vector field that takes other vectors than the documents have.
    #[error(
        "the index template's field {path:?} must be a {type_name} with {length:?}: {dimensions}"
    )]
    Vector {
        /// The field.
        path: String,
        /// The type that it must have.
        type_name: &'static str,
        /// The member that has the length.
        length: &'static str,
        /// The length of the documents' vectors.
        dimensions: u32,
    },
}

/// The user's own template for a layout's documents, with its placeholders filled.
///
/// # Errors
/// It lacks a guard, does not cover the names, or its mapping does not take the documents.
pub fn own_template(
    mut template: Json,
    layout: &Layout,
    options: &TemplateOptions,
) -> Result<Json, TemplateError> {
    fill(&mut template, options)?;
    check_template(&template, layout, options)?;
    keep_vectors_in_source(&mut template, layout.dialect, options);
    Ok(template)
}

/// Checks that a template guards the names and takes every document of the layout.
///
/// # Errors
/// It lacks a guard, does not cover the names, or its mapping does not take the documents.
pub fn check_template(
    template: &Json,
    layout: &Layout,
    options: &TemplateOptions,
) -> Result<(), TemplateError> {
    let guards = layout.dialect == Dialect::Elasticsearch;
    if guards && template["allow_auto_create"] != json!(false) {
        return Err(TemplateError::Guard {
            needs: "\"allow_auto_create\": false",
            reason: "a delete that finds no index would create one under its name",
        });
    }
    let settings = &template["template"]["settings"];
    let durability = ["index.translog.durability", "translog.durability"];
    if !durability
        .iter()
        .any(|path| setting(settings, path) == Some(&json!("request")))
    {
        return Err(TemplateError::Guard {
            needs: "template.settings \"index.translog.durability\": \"request\"",
            reason: "a crash of Elasticsearch would lose what it had acknowledged",
        });
    }
    for name in [&options.alias, &options.index] {
        let patterns = &template["index_patterns"];
        let one = std::slice::from_ref(patterns);
        let patterns = patterns.as_array().map_or(one, Vec::as_slice);
        if !patterns
            .iter()
            .any(|p| p.as_str().is_some_and(|p| matches(p, name)))
        {
            return Err(TemplateError::Pattern(name.clone()));
        }
    }
    let mappings = &template["template"]["mappings"];
    check_fields(&layout.nodes, "", mappings, layout.dialect)
}

/// Whether an index pattern, in which `*` stands for any text, matches a name.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    WildMatchPattern::<'*', '\0'>::new(pattern).matches(name)
}

/// Every field of the layout must find its place in the mappings.
fn check_fields(
    nodes: &[Node],
    parent: &str,
    mappings: &Json,
    dialect: Dialect,
) -> Result<(), TemplateError> {
    let (type_name, length) = dialect.vector();
    for node in nodes {
        let path = format!("{parent}{}", node.name);
        let (derived, vector) = match &node.content {
            Content::Object(nodes) => {
                check_fields(nodes, &format!("{path}."), mappings, dialect)?;
                continue;
            }
            Content::GeoPoint { .. } => (mapping::geo_point(), None),
            Content::Column(leaf) => (leaf.mapping.clone(), leaf.dimensions()),
        };
        match (place(mappings, &path, false), vector) {
            (Place::None, _) => {
                let mapping = dialect.field(derived).to_string();
                return Err(TemplateError::Field { path, mapping });
            }
            (Place::Field(field), Some(dimensions))
                if field["type"] != type_name || field[length] != dimensions =>
            {
                return Err(TemplateError::Vector {
                    path,
                    type_name,
                    length,
                    dimensions,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where a field's value goes.
enum Place<'a> {
    /// Its own mapping.
    Field(&'a Json),
    /// An object that takes members without a mapping.
    Open,
    /// Nowhere: the document is refused.
    None,
}

/// Follows `path` through an object's mapping; `strict` is what the objects around it say.
fn place<'a>(object: &'a Json, path: &str, strict: bool) -> Place<'a> {
    let strict = match &object["dynamic"] {
        Json::Null => strict,
        Json::String(dynamic) => dynamic.starts_with("strict"),
        _ => false,
    };
    let object_type = object["type"].as_str().unwrap_or("object");
    if object["enabled"] == json!(false) || matches!(object_type, "flattened" | "flat_object") {
        return Place::Open;
    }
    if !matches!(object_type, "object" | "nested") {
        return Place::None;
    }
    let members = object["properties"].as_object().into_iter().flatten();
    for (name, field) in members {
        match path.strip_prefix(name.as_str()) {
            Some("") => return Place::Field(field),
            Some(rest) if rest.starts_with('.') => return place(field, &rest[1..], strict),
            _ => {}
        }
    }
    if strict { Place::None } else { Place::Open }
}

#[cfg(test)]
mod tests {
    use super::super::{fixture::*, template::INTEGRATED_RECORDS};
    use super::*;

    #[test]
    fn a_template_of_the_user_s_own_is_held_to_the_same() {
        let layout = organizations();
        let readable: Json = serde_json::from_str(INTEGRATED_RECORDS).unwrap();
        let own = |pointer: &str, value: Option<Json>| {
            let mut template = readable.clone();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let parent = template
                .pointer_mut(parent)
                .unwrap()
                .as_object_mut()
                .unwrap();
            match value {
                Some(value) => parent.insert(name.to_owned(), value),
                None => parent.remove(name),
            };
            own_template(template, &layout, &options()).map_err(|error| error.to_string())
        };
        for (pointer, value, part) in [
            ("/allow_auto_create", None, "allow_auto_create"),
            ("/template/settings/index/translog", None, "durability"),
            (
                "/index_patterns",
                Some(json!(["integrated_records_v*"])),
                "\"integrated_records\"",
            ),
            ("/priority", Some(json!("${PRIORITY}")), "${PRIORITY}"),
            (
                "/template/mappings/properties/embedding/dims",
                Some(json!(4)),
                "\"dims\": 3",
            ),
            ("/template/mappings/properties/hk", None, "\"hk\""),
            (
                "/template/mappings/properties/address",
                Some(keyword()),
                "\"address.street\"",
            ),
            (
                "/template/mappings/properties/address/properties/city",
                None,
                "\"address.city\"",
            ),
        ] {
            let message = own(pointer, value).unwrap_err();
            assert!(message.contains(part), "{pointer}: {message}");
        }
        for (pointer, value) in [
            ("/template/settings/index.refresh_interval", json!("30s")),
            ("/index_patterns", json!("integrated_records*")),
            (
                "/template/mappings/properties/address",
                json!({ "dynamic": true, "properties": {} }),
            ),
            (
                "/template/mappings/properties/address",
                json!({ "type": "flattened" }),
            ),
        ] {
            assert_eq!(own(pointer, Some(value)).err(), None, "{pointer}");
        }
    }

    fn keyword() -> Json {
        json!({ "type": "keyword" })
    }
}
