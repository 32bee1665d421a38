//! Which vector fields of an index can be loaded without their graph, to get it afterwards? Pure.
//!
//! What must hold: what a field becomes in the end is what its template says of it, to the letter,
//! so that the server fills in the same defaults as if it had been there from the start. `flat` is
//! the one form from which Elasticsearch lets a field go to every other one.

use serde_json::{Map, Value as Json, json};

/// The forms that keep a graph beside the vectors. Building it is most of the work of indexing.
const GRAPHS: [&str; 4] = ["hnsw", "int8_hnsw", "int4_hnsw", "bbq_hnsw"];

/// Vector fields, each by its name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Deferral {
    /// Their mapping while the index is loaded: stored in full, searched one by one.
    pub flat: Map<String, Json>,
    /// Their mapping as the template has it.
    pub wanted: Map<String, Json>,
}

/// The top-level fields of a filled index template that would be indexed with a graph.
#[must_use]
pub fn deferral(template: &Json) -> Deferral {
    let mut deferral = Deferral::default();
    let properties = template["template"]["mappings"]["properties"].as_object();
    for (name, field) in properties
        .into_iter()
        .flatten()
        .filter(|(_, f)| has_graph(f))
    {
        let mut flat = field.clone();
        flat["index_options"] = json!({ "type": "flat" });
        deferral.flat.insert(name.clone(), flat);
        deferral.wanted.insert(name.clone(), field.clone());
    }
    deferral
}

/// Without `dims` the length follows from the first document, and a change of the mapping would have
/// to name it. Without `index_options` the server's own default is one of the graphs.
fn has_graph(field: &Json) -> bool {
    let graph = match field["index_options"]["type"].as_str() {
        Some(kind) => GRAPHS.contains(&kind),
        None => field.get("index_options").is_none(),
    };
    field["type"] == "dense_vector" && field["dims"].is_u64() && field["index"] != false && graph
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(field: &Json) -> Deferral {
        deferral(&json!({ "template": { "mappings": { "properties": {
            "name": { "type": "text" }, "e": field
        }}}}))
    }

    #[test]
    fn a_graph_is_deferred_and_comes_back_as_the_template_has_it() {
        for options in [
            None,
            Some(json!({ "type": "hnsw", "m": 32 })),
            Some(json!({ "type": "bbq_hnsw", "rescore_vector": { "oversample": 2.0 } })),
        ] {
            let mut field = json!({ "type": "dense_vector", "dims": 8, "similarity": "cosine" });
            if let Some(options) = options {
                field["index_options"] = options;
            }
            let deferral = of(&field);
            assert_eq!(deferral.wanted, Map::from_iter([("e".to_owned(), field)]));
            let flat = json!({
                "type": "dense_vector", "dims": 8, "similarity": "cosine",
                "index_options": { "type": "flat" }
            });
            assert_eq!(deferral.flat, Map::from_iter([("e".to_owned(), flat)]));
        }
    }

    #[test]
    fn what_has_no_graph_or_cannot_be_changed_later_is_left_as_it_is() {
        for field in [
            json!({ "type": "dense_vector", "dims": 8, "index": false }),
            json!({ "type": "dense_vector" }),
            json!({ "type": "dense_vector", "dims": 8, "index_options": { "type": "int8_flat" } }),
            json!({ "type": "dense_vector", "dims": 8, "index_options": { "type": "bbq_disk" } }),
            json!({ "type": "dense_vector", "dims": 8, "index_options": {} }),
            json!({ "type": "sparse_vector" }),
        ] {
            assert_eq!(of(&field), Deferral::default(), "{field}");
        }
        assert_eq!(deferral(&json!({})), Deferral::default());
    }
}
