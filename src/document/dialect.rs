//! In whose words is a mapping? Pure.
//!
//! Mappings and templates are written down once, as Elasticsearch reads them. OpenSearch has the same
//! fields but for two, and no guard against an index that a write creates: there a setting of the
//! cluster has to be one, which `elasticsearch/auto_create.rs` looks at.

use serde_json::{Value as Json, json};

/// Whose words a mapping is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Elasticsearch's.
    #[default]
    Elasticsearch,
    /// OpenSearch's.
    OpenSearch,
}

impl Dialect {
    /// The type of a field for vectors, and the member that has their length.
    pub(super) fn vector(self) -> (&'static str, &'static str) {
        match self {
            Self::Elasticsearch => ("dense_vector", "dims"),
            Self::OpenSearch => ("knn_vector", "dimension"),
        }
    }

    /// A mapping's `properties` in these words.
    pub(super) fn properties(self, properties: Json) -> Json {
        match properties {
            Json::Object(fields) => fields
                .into_iter()
                .map(|(name, field)| (name, self.field(field)))
                .collect(),
            other => other,
        }
    }

    /// A field's mapping in these words.
    pub(super) fn field(self, field: Json) -> Json {
        match self {
            Self::Elasticsearch => field,
            Self::OpenSearch => open_search(field),
        }
    }

    /// A built-in template in these words; its properties are already.
    pub(super) fn template(self, template: &mut Json) {
        if self == Self::Elasticsearch {
            return;
        }
        if let Some(template) = template.as_object_mut() {
            template.remove("allow_auto_create");
        }
        let body = &mut template["template"];
        if has_vector(&body["mappings"]["properties"]) {
            body["settings"]["index"]["knn"] = true.into();
        }
    }
}

/// A `flat_object` takes no parameters, so it keeps no long string out of the index: docs/opensearch.md
/// says what follows. Of the engines for vectors, Lucene's is the one that is part of every installation.
fn open_search(mut field: Json) -> Json {
    match field["type"].as_str() {
        Some("flattened") => json!({ "type": "flat_object" }),
        Some("dense_vector") => json!({
            "type": "knn_vector",
            "dimension": field["dims"],
            "method": { "name": "hnsw", "engine": "lucene", "space_type": "cosinesimil" },
        }),
        _ => {
            if let Some(inner) = field.get_mut("properties") {
                *inner = Dialect::OpenSearch.properties(inner.take());
            }
            field
        }
    }
}

/// Whether a field among these, at any depth, is OpenSearch's for vectors.
pub(super) fn has_vector(properties: &Json) -> bool {
    let mut fields = properties.as_object().into_iter().flatten();
    fields.any(|(_, field)| field["type"] == "knn_vector" || has_vector(&field["properties"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_calls_otherwise_is_translated_at_any_depth() {
        let mapped = json!({
            "a": { "type": "keyword", "ignore_above": 8191 },
            "o": { "properties": {
                "j": { "type": "flattened", "ignore_above": 8191, "depth_limit": 1000 },
                "v": { "type": "dense_vector", "dims": 3, "index": true, "similarity": "cosine" },
            }},
        });
        let expected = json!({
            "a": { "type": "keyword", "ignore_above": 8191 },
            "o": { "properties": {
                "j": { "type": "flat_object" },
                "v": {
                    "type": "knn_vector",
                    "dimension": 3,
                    "method": { "name": "hnsw", "engine": "lucene", "space_type": "cosinesimil" },
                },
            }},
        });
        assert_eq!(Dialect::Elasticsearch.properties(mapped.clone()), mapped);
        assert_eq!(Dialect::OpenSearch.properties(mapped), expected);
    }

    #[test]
    fn the_index_is_made_for_vectors_where_there_are_some() {
        for (kind, knn) in [("knn_vector", json!(true)), ("keyword", Json::Null)] {
            let mut template = json!({
                "allow_auto_create": false,
                "template": {
                    "settings": { "index": {} },
                    "mappings": { "properties": { "o": { "properties": { "v": { "type": kind } } } } },
                },
            });
            Dialect::OpenSearch.template(&mut template);
            assert_eq!(template.get("allow_auto_create"), None);
            let index = &template["template"]["settings"]["index"];
            assert_eq!(index["knn"], knn);
        }
    }
}
