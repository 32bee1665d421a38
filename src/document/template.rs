//! The index template: it gives every generation its mapping and guards the names.
//!
//! What must hold: a name that the alias or a generation has is never created by a write
//! (`allow_auto_create: false` is the only guard that stops a bulk delete, `require_alias` does
//! not), what Elasticsearch acknowledges is on disk (`translog.durability: request`), and the strict
//! mapping has every field of the layout. A user's own template is held to the same. Pure.

use serde_json::{Value as Json, json};

use super::{
    layout::{Content, Layout, Node},
    mapping,
};

/// The template for `integrated_records`, readable on its own.
pub(super) const INTEGRATED_RECORDS: &str = include_str!("../../templates/integrated_records.json");
/// The frame for any other table, whose properties follow from its columns.
pub(super) const ANY_TABLE: &str = include_str!("../../templates/any_table.json");

/// Elasticsearch's default of `index.mapping.total_fields.limit`.
const TOTAL_FIELDS_DEFAULT: usize = 1000;

/// What a template needs to know beyond the document.
#[derive(Debug, Clone)]
pub struct TemplateOptions {
    /// `ELASTICSEARCH_INDEX_ALIAS`.
    pub alias: String,
    /// `ELASTICSEARCH_INDEX_NAME`, the first generation.
    pub index: String,
    /// `ELASTICSEARCH_NUMBER_OF_SHARDS`.
    pub shards: u32,
    /// `EMBEDDING_DIMENSIONS`.
    pub dimensions: u32,
    /// The server's major and minor version.
    pub server_version: (u32, u32),
}

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
        "the index template's field {path:?} must be a dense_vector with \"dims\": {dimensions}"
    )]
    Vector {
        /// The field.
        path: String,
        /// The length of the documents' vectors.
        dimensions: u32,
    },
}

/// The template for a layout's documents.
#[must_use]
pub fn template(layout: &Layout, options: &TemplateOptions) -> Json {
    let mut template = layout.template.clone();
    let body = &mut template["template"];
    body["mappings"]["properties"] = layout.properties();
    let fields = fields(&body["mappings"]["properties"]);
    if fields * 2 > TOTAL_FIELDS_DEFAULT {
        // Room for as many again, since columns can be added.
        body["settings"]["index"]["mapping"] = json!({ "total_fields": { "limit": fields * 2 } });
    }
    // The built-in templates hold no unknown placeholder: a test reads them.
    let _ = fill(&mut template, options);
    keep_vectors_in_source(&mut template, options);
    template
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
    keep_vectors_in_source(&mut template, options);
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
    if template["allow_auto_create"] != json!(false) {
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
    check_fields(&layout.nodes, "", &template["template"]["mappings"])
}

/// Index patterns for the alias, so that no index takes its name, and for every generation: the
/// first one's name and what counts its trailing number up. A digit stands before each `*`, so
/// that `records_v1` does not claim `records_vault`.
#[must_use]
pub fn index_patterns(options: &TemplateOptions) -> Vec<String> {
    let stem = options.index.trim_end_matches(|c: char| c.is_ascii_digit());
    let mut patterns = vec![options.alias.clone()];
    if stem == options.index {
        patterns.push(options.index.clone());
    }
    patterns.extend((0..=9).map(|digit| format!("{stem}{digit}*")));
    patterns
}

/// Replaces each string that is a placeholder by what it stands for.
fn fill(json: &mut Json, options: &TemplateOptions) -> Result<(), TemplateError> {
    match json {
        Json::String(text) if text.starts_with("${") => {
            *json = match text.as_str() {
                "${INDEX_PATTERNS}" => json!(index_patterns(options)),
                "${ELASTICSEARCH_NUMBER_OF_SHARDS}" => json!(options.shards),
                "${EMBEDDING_DIMENSIONS}" => json!(options.dimensions),
                _ => return Err(TemplateError::Placeholder(text.clone())),
            };
            Ok(())
        }
        Json::Array(items) => items.iter_mut().try_for_each(|item| fill(item, options)),
        Json::Object(members) => members
            .values_mut()
            .try_for_each(|item| fill(item, options)),
        _ => Ok(()),
    }
}

/// From 9.2 on Elasticsearch leaves vectors out of `_source` unless told otherwise, and then writes
/// `_source` anew: a number of a `jsonb` comes back as another text (9999999999999999.99 as
/// 1.0E16). So vectors stay, unless the template decides itself. Older servers refuse the setting.
fn keep_vectors_in_source(template: &mut Json, options: &TemplateOptions) {
    let settings = &mut template["template"]["settings"];
    let decided = [
        "index.mapping.exclude_source_vectors",
        "mapping.exclude_source_vectors",
    ]
    .iter()
    .any(|path| setting(settings, path).is_some());
    if options.server_version >= (9, 2) && !decided {
        settings["index.mapping.exclude_source_vectors"] = json!(false);
    }
}

/// A setting by its path, however its names are joined with dots.
fn setting<'a>(settings: &'a Json, path: &str) -> Option<&'a Json> {
    settings.as_object()?.iter().find_map(|(name, value)| {
        let rest = path.strip_prefix(name.as_str())?;
        if rest.is_empty() {
            return Some(value);
        }
        setting(value, rest.strip_prefix('.')?)
    })
}

/// Whether an index pattern, in which `*` stands for any text, matches a name.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            name.char_indices()
                .map(|(at, _)| at)
                .chain([name.len()])
                .any(|at| matches(rest, &name[at..]))
        }),
    }
}

/// How many mappers there are, as `index.mapping.total_fields.limit` counts them.
fn fields(properties: &Json) -> usize {
    let count = |field: &Json| 1 + fields(&field["properties"]) + fields(&field["fields"]);
    properties
        .as_object()
        .map_or(0, |members| members.values().map(count).sum())
}

/// Every field of the layout must find its place in the mappings.
fn check_fields(nodes: &[Node], parent: &str, mappings: &Json) -> Result<(), TemplateError> {
    for node in nodes {
        let path = format!("{parent}{}", node.name);
        let (derived, vector) = match &node.content {
            Content::Object(nodes) => {
                check_fields(nodes, &format!("{path}."), mappings)?;
                continue;
            }
            Content::GeoPoint { .. } => (mapping::geo_point(), None),
            Content::Column(leaf) => (leaf.mapping.clone(), leaf.dimensions()),
        };
        match (place(mappings, &path, false), vector) {
            (Place::None, _) => {
                let mapping = derived.to_string();
                return Err(TemplateError::Field { path, mapping });
            }
            (Place::Field(field), Some(dimensions))
                if field["type"] != "dense_vector" || field["dims"] != dimensions =>
            {
                return Err(TemplateError::Vector { path, dimensions });
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
    if object["enabled"] == json!(false) || object["type"] == "flattened" {
        return Place::Open;
    }
    let object_type = object["type"].as_str().unwrap_or("object");
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
