//! The index template: it gives every generation its mapping and guards the names.
//!
//! What must hold: a name that the alias or a generation has is never created by a write
//! (`allow_auto_create: false` is the only guard that stops a bulk delete, `require_alias` does
//! not; OpenSearch has none), what Elasticsearch acknowledges is on disk (`translog.durability:
//! request`), and the strict mapping has every field of the layout. `guard.rs` holds a user's own
//! template to the same. Pure.

use serde_json::{Value as Json, json};

use super::{
    dialect::{Dialect, has_vector},
    guard::TemplateError,
    layout::Layout,
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
    layout.dialect.template(&mut template);
    keep_vectors_in_source(&mut template, layout.dialect, options);
    template
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
pub(super) fn fill(json: &mut Json, options: &TemplateOptions) -> Result<(), TemplateError> {
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
/// 1.0E16). OpenSearch does so from 3.0 on. So vectors stay, unless the template decides itself. Older
/// versions of Elasticsearch refuse the setting.
pub(super) fn keep_vectors_in_source(
    template: &mut Json,
    dialect: Dialect,
    options: &TemplateOptions,
) {
    let body = &mut template["template"];
    let (name, is_wanted) = match dialect {
        Dialect::Elasticsearch => (
            "mapping.exclude_source_vectors",
            options.server_version >= (9, 2),
        ),
        Dialect::OpenSearch => (
            "knn.derived_source.enabled",
            has_vector(&body["mappings"]["properties"]),
        ),
    };
    let settings = &mut body["settings"];
    let full = format!("index.{name}");
    let decided = setting(settings, &full).is_some() || setting(settings, name).is_some();
    if is_wanted && !decided {
        settings[full] = false.into();
    }
}

/// A setting by its path, however its names are joined with dots.
pub(super) fn setting<'a>(settings: &'a Json, path: &str) -> Option<&'a Json> {
    settings.as_object()?.iter().find_map(|(name, value)| {
        let rest = path.strip_prefix(name.as_str())?;
        if rest.is_empty() {
            return Some(value);
        }
        setting(value, rest.strip_prefix('.')?)
    })
}

/// How many mappers there are, as `index.mapping.total_fields.limit` counts them.
fn fields(properties: &Json) -> usize {
    let count = |field: &Json| 1 + fields(&field["properties"]) + fields(&field["fields"]);
    properties
        .as_object()
        .map_or(0, |members| members.values().map(count).sum())
}

#[cfg(test)]
mod tests {
    use super::super::{Shape, check_template, fixture::*, guard::matches};
    use super::*;
    use crate::value::Scalar;

    #[test]
    fn the_built_in_templates_hold_every_guard_and_every_field() {
        for layout in [organizations(), layout("things", organization(3))] {
            let template = template(&layout, &options());
            assert_eq!(check_template(&template, &layout, &options()), Ok(()));
            assert!(!template.to_string().contains("${"), "{template}");
            let index = &template["template"]["settings"]["index"];
            assert_eq!(index["number_of_shards"], 2);
            assert_eq!(index["refresh_interval"], "1s");
            assert_eq!(template["template"]["mappings"]["dynamic"], "strict");
        }
    }

    #[test]
    fn in_opensearch_s_words_nothing_is_left_that_it_does_not_know() {
        let relation = row("integrated_records", organization(3)).relation.clone();
        let shape = Shape::for_table("integrated_records", None, 3).unwrap();
        let layout = shape.in_words_of(Dialect::OpenSearch).bind(&relation);
        let layout = layout.unwrap();
        let options = TemplateOptions {
            server_version: (9, 9),
            ..options()
        };
        let template = template(&layout, &options);
        assert_eq!(check_template(&template, &layout, &options), Ok(()));
        let kept = "index.knn.derived_source.enabled";
        let settings = &template["template"]["settings"];
        assert_eq!(setting(settings, kept), Some(&json!(false)));
        let text = template.to_string();
        for unknown in ["auto_create", "dense_vector", "flattened", "exclude_source"] {
            assert!(!text.contains(unknown), "{unknown}: {text}");
        }
        let mut of_elasticsearch = template.clone();
        of_elasticsearch["template"]["mappings"]["properties"]["embedding"] =
            json!({ "type": "dense_vector", "dims": 3 });
        let refused = check_template(&of_elasticsearch, &layout, &options).unwrap_err();
        let wanted = r#""embedding" must be a knn_vector with "dimension": 3"#;
        assert!(refused.to_string().contains(wanted), "{refused}");
    }

    #[test]
    fn the_readable_template_is_what_integrated_records_gets() {
        let template = template(&organizations(), &options());
        let mut readable: Json = serde_json::from_str(INTEGRATED_RECORDS).unwrap();
        fill(&mut readable, &options()).unwrap();
        assert_eq!(template, readable);
    }

    #[test]
    fn a_built_in_mapping_gives_way_where_the_table_has_another_type() {
        let mut given = organization(3);
        for (name, ty, _) in &mut given {
            if *name == "identifiers" {
                *ty = scalar(Scalar::Text);
            }
        }
        let properties = layout("integrated_records", given).properties();
        assert_eq!(properties["identifiers"]["type"], "text");
        assert_eq!(properties["attributes"]["type"], "flattened");
    }

    #[test]
    fn a_column_more_is_a_mapping_more() {
        let mut given = organization(3);
        given.push(("added", scalar(Scalar::Int8), None));
        let layout = layout("integrated_records", given);
        assert_eq!(layout.properties()["added"], json!({ "type": "long" }));
        let template = template(&layout, &options());
        assert_eq!(check_template(&template, &layout, &options()), Ok(()));
    }

    #[test]
    fn vectors_stay_in_the_source_where_the_server_would_leave_them_out() {
        let name = "index.mapping.exclude_source_vectors";
        for (server_version, expected) in [
            ((8, 19), None),
            ((9, 1), None),
            ((9, 2), Some(&json!(false))),
        ] {
            let options = TemplateOptions {
                server_version,
                ..options()
            };
            let template = template(&organizations(), &options);
            assert_eq!(setting(&template["template"]["settings"], name), expected);
        }
    }

    #[test]
    fn a_wide_table_gets_room_for_its_fields() {
        let columns: Vec<String> = (0..700).map(|i| format!("c{i}")).collect();
        let relation = crate::change::Relation {
            columns: columns
                .into_iter()
                .map(|name| crate::change::Column {
                    name,
                    ty: scalar(Scalar::Text),
                })
                .collect(),
            ..(*row("wide", vec![]).relation).clone()
        };
        let layout = Shape::for_table("wide", None, 3)
            .unwrap()
            .bind(&relation)
            .unwrap();
        let template = template(&layout, &options());
        let limit = setting(
            &template["template"]["settings"],
            "index.mapping.total_fields.limit",
        );
        assert_eq!(limit, Some(&json!(2800)));
    }

    #[test]
    fn patterns_take_the_names_of_all_generations_and_no_others() {
        let patterns = |alias: &str, index: &str| {
            index_patterns(&TemplateOptions {
                alias: alias.to_owned(),
                index: index.to_owned(),
                ..options()
            })
        };
        for (index, name, expected) in [
            ("records_v1", "records", true),
            ("records_v1", "records_v1", true),
            ("records_v1", "records_v12", true),
            ("records_v1", "records_vault", false),
            ("records_v1", "records-sync-metadata", false),
            ("records1", "records-sync-metadata", false),
            ("heap", "heap", true),
            ("heap", "heap2", true),
            ("heap", "heaps", false),
        ] {
            let patterns = patterns("records", index);
            let found = patterns.iter().any(|pattern| matches(pattern, name));
            assert_eq!(found, expected, "{index}: {name}");
        }
    }
}
