//! A shape bound to one relation: a tree of fields that know their column, their form and their
//! mapping. All that does not depend on a row is worked out here, once. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Map, Value as Json, json};

use super::{
    declaration::InvalidVectors, dialect::Dialect, error::ShapeError, json as text, mapping,
};

/// A shape bound to one relation: column indices instead of names. Cheap to encode with.
#[derive(Debug)]
pub struct Layout {
    pub(super) nodes: Vec<Node>,
    /// The relation's column names, for messages.
    pub(super) columns: Vec<String>,
    pub(super) invalid_vectors: InvalidVectors,
    /// The index template that came with the program for this table.
    pub(super) template: Json,
    /// Whose words its mapping and its template are in.
    pub(super) dialect: Dialect,
}

/// A field of a document, or an object of fields.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// `,"name":` ready to be copied; the first field of an object leaves out the comma.
    pub(super) key: Box<[u8]>,
    pub(super) content: Content,
}

/// What stands under a name.
#[derive(Debug)]
pub(super) enum Content {
    Object(Vec<Node>),
    Column(Leaf),
    /// Columns of the latitude and the longitude, in degrees.
    GeoPoint {
        latitude: usize,
        longitude: usize,
    },
}

/// A column's field.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) column: usize,
    pub(super) form: Form,
    /// The mapping that follows from the column's type or from the declared one.
    pub(super) mapping: Json,
    /// The user declared the type, so that a built-in mapping does not hold any more.
    pub(super) type_by_user: bool,
}

/// How a column's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As its type's JSON form.
    Natural {
        /// JSON that is no object becomes `{"value": …}`, since `flattened` and `object` take
        /// objects alone.
        wrap: bool,
        /// The column is `jsonb` itself: its text has unique keys and no line break.
        jsonb: bool,
    },
    /// As one string, or an array of strings.
    String,
    /// As one string, which the column's bytes are already.
    Text,
    /// As an array of strings, which its elements' bytes are already.
    Texts {
        /// OID of the elements' type.
        element: u32,
    },
    /// As an array of finite numbers.
    Vector { dimensions: u32 },
}

impl Layout {
    /// The mapping's `properties`: those of the built-in template where it has the field and the
    /// user declared no other type, else what follows from the column's type. A column added while
    /// the stream runs is in here as soon as the shape is bound to the new relation, so putting
    /// this as mapping makes a strict index ready for it.
    #[must_use]
    pub fn properties(&self) -> Json {
        let built_in = &self.template["template"]["mappings"]["properties"];
        self.dialect
            .properties(properties(&self.nodes, Some(built_in)))
    }
}

impl Layout {
    /// The columns whose fields are vectors, each with the length that its field takes.
    #[must_use]
    pub fn vectors(&self) -> Vec<(usize, u32)> {
        let mut found = Vec::new();
        let mut nodes: Vec<&Node> = self.nodes.iter().collect();
        while let Some(node) = nodes.pop() {
            match &node.content {
                Content::Object(inner) => nodes.extend(inner),
                Content::Column(leaf) => {
                    found.extend(leaf.dimensions().map(|length| (leaf.column, length)));
                }
                Content::GeoPoint { .. } => {}
            }
        }
        found
    }
}

impl Layout {
    /// The paths of the fields that are vectors.
    pub(super) fn vector_paths(&self) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        let mut nodes: Vec<(String, &Node)> = Vec::new();
        nodes.extend(self.nodes.iter().map(|node| (node.name.clone(), node)));
        while let Some((path, node)) = nodes.pop() {
            match &node.content {
                Content::Object(inner) => nodes.extend(
                    inner
                        .iter()
                        .map(|node| (format!("{path}.{}", node.name), node)),
                ),
                Content::Column(leaf) if leaf.dimensions().is_some() => {
                    paths.insert(path);
                }
                Content::Column(_) | Content::GeoPoint { .. } => {}
            }
        }
        paths
    }
}

fn properties(nodes: &[Node], built_in: Option<&Json>) -> Json {
    let mut members = Map::new();
    for node in nodes {
        let built_in = built_in.and_then(|properties| properties.get(&node.name));
        let mapping = match &node.content {
            Content::Object(nodes) => {
                json!({ "properties": properties(nodes, built_in.and_then(|b| b.get("properties"))) })
            }
            Content::GeoPoint { .. } => built_in.cloned().unwrap_or_else(mapping::geo_point),
            Content::Column(leaf) => leaf.mapping_over(built_in),
        };
        members.insert(node.name.clone(), mapping);
    }
    Json::Object(members)
}

impl Leaf {
    /// The length of this field's vectors, if it is one.
    pub(super) fn dimensions(&self) -> Option<u32> {
        match self.form {
            Form::Vector { dimensions } => Some(dimensions),
            _ => None,
        }
    }

    /// The built-in mapping if it takes what this column holds, with this column's dimensions.
    fn mapping_over(&self, built_in: Option<&Json>) -> Json {
        match built_in {
            Some(built_in) if !self.type_by_user && mapping::takes(built_in, &self.mapping) => {
                let mut mapping = built_in.clone();
                if let Some(dimensions) = self.dimensions() {
                    mapping["dims"] = dimensions.into();
                }
                mapping
            }
            _ => self.mapping.clone(),
        }
    }
}

/// The fields as they are put in, each at a path of its own.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// What stands at a path: a column, a point, or the first that made it an object.
    taken: BTreeMap<String, Taken>,
}

#[derive(Debug)]
struct Taken {
    by: String,
    is_object: bool,
}

impl Tree {
    /// Claims a path for `from` (a column or a geo point), and the objects on the way to it.
    ///
    /// # Errors
    /// No field can have this path, or something else has it.
    pub(super) fn claim(&mut self, path: &str, from: &str) -> Result<(), ShapeError> {
        if let Some(reason) = unfit(path) {
            return Err(ShapeError::Path {
                from: from.to_owned(),
                path: path.to_owned(),
                reason,
            });
        }
        let ends = path.match_indices('.').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let new = Taken {
                by: from.to_owned(),
                is_object: end < path.len(),
            };
            match self.taken.get(&path[..end]) {
                None => {
                    self.taken.insert(path[..end].to_owned(), new);
                }
                Some(taken) if taken.is_object && new.is_object => {}
                Some(taken) => {
                    return Err(ShapeError::SamePath {
                        path: path[..end].to_owned(),
                        first: taken.to_string(),
                        second: new.to_string(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Puts `content` at a path that was claimed for it.
    pub(super) fn put(&mut self, path: &str, content: Content) {
        let mut nodes = &mut self.nodes;
        let mut rest = path;
        while let Some((name, inner)) = rest.split_once('.') {
            let index = nodes.iter().position(|node| node.name == name);
            let index = index.unwrap_or_else(|| {
                nodes.push(Node::new(name, Content::Object(Vec::new())));
                nodes.len() - 1
            });
            let Content::Object(members) = &mut nodes[index].content else {
                return;
            };
            nodes = members;
            rest = inner;
        }
        nodes.push(Node::new(rest, content));
    }

    pub(super) fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_object {
            f.write_str("the object around ")?;
        }
        f.write_str(&self.by)
    }
}

impl Node {
    fn new(name: &str, content: Content) -> Self {
        let mut key = vec![b','];
        text::write_string(&mut key, name);
        key.push(b':');
        Self {
            name: name.to_owned(),
            key: key.into(),
            content,
        }
    }
}

/// Why Elasticsearch would take no field of this path.
fn unfit(path: &str) -> Option<&'static str> {
    /// Metadata fields, which a document may not hold (manual: "Metadata fields").
    const METADATA: [&str; 15] = [
        "_data_stream_timestamp",
        "_doc_count",
        "_feature",
        "_field_names",
        "_id",
        "_ignored",
        "_ignored_source",
        "_index",
        "_nested_path",
        "_routing",
        "_seq_no",
        "_source",
        "_tier",
        "_tsid",
        "_version",
    ];
    if path.split('.').any(|segment| segment.trim().is_empty()) {
        return Some("a name is empty (dots part the names of nested objects)");
    }
    METADATA
        .contains(&path.split('.').next()?)
        .then_some("Elasticsearch keeps this name for itself")
}
