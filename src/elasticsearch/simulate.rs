//! Tried without a write: would this template be taken, and would these documents?
//!
//! `_index_template/_simulate/<name>` refuses what `PUT _index_template/<name>` would refuse, another
//! template of the same priority included. `_ingest/_simulate` parses each document with the mapping
//! that its index has or would get. What it does not do is put a document into Lucene; seen on 8.19
//! and 9.5: it tells what does not parse, an unknown field of a strict mapping, a vector of another
//! length or of no magnitude, and a term that is too long. OpenSearch has no such thing.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Client, Error, Method, json as body, segment};
use crate::change::Key;

/// A document as it would be sent.
#[derive(Debug)]
pub struct Trial {
    /// Its `_id`.
    pub key: Key,
    /// JSON.
    pub document: Vec<u8>,
}

/// The mapping that documents are held against.
#[derive(Debug, Clone, Copy)]
pub enum Against<'a> {
    /// An index that is to be made from this template.
    Template {
        /// The template's name.
        name: &'a str,
        /// Its body.
        template: &'a Value,
    },
    /// The index that is there, once it has these properties too.
    IndexWith(&'a Map<String, Value>),
}

/// A document that would be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its `_id`.
    pub key: String,
    /// Elasticsearch's innermost reason.
    pub reason: String,
}

/// Whether a template would be taken under this name.
///
/// # Errors
/// The request failed, or [`Error::Refused`]: it would not.
pub async fn try_template(client: &Client, name: &str, template: &Value) -> Result<(), Error> {
    let path = format!("_index_template/_simulate/{}", segment(name));
    client
        .request(Method::Post, &path, &[], Some(body(template)))
        .await?;
    Ok(())
}

/// Those of the documents that `index` would refuse. No `_id` may have a
/// [`key_problem`](super::key_problem), which would fail the request.
///
/// # Errors
/// The request failed.
pub async fn try_documents(
    client: &Client,
    index: &str,
    trials: &[Trial],
    against: Against<'_>,
) -> Result<Vec<Refused>, Error> {
    const QUERY: [(&str, &str); 1] = [("filter_path", "docs.doc._id,docs.doc.error,docs.error")];
    if trials.is_empty() {
        return Ok(Vec::new());
    }
    let mut options = Map::new();
    match against {
        Against::Template { name, template } => {
            options.insert(
                "index_template_substitutions".to_owned(),
                json!({ name: template }),
            );
        }
        Against::IndexWith(properties) if properties.is_empty() => {}
        Against::IndexWith(properties) => {
            options.insert(
                "mapping_addition".to_owned(),
                json!({ "properties": properties }),
            );
        }
    }
    let answer = client
        .request(
            Method::Post,
            "_ingest/_simulate",
            &QUERY,
            Some(request(index, trials, &options).into()),
        )
        .await?;
    refused(&answer.json()?)
}

/// The documents go in as they are: read into a [`Value`], numbers would lose digits.
fn request(index: &str, trials: &[Trial], options: &Map<String, Value>) -> Vec<u8> {
    let mut request = b"{\"docs\":[".to_vec();
    for (number, trial) in trials.iter().enumerate() {
        if number > 0 {
            request.push(b',');
        }
        let (index, id) = (json!(index), json!(trial.key.as_str()));
        request.extend(format!("{{\"_index\":{index},\"_id\":{id},\"_source\":").into_bytes());
        request.extend(&trial.document);
        request.push(b'}');
    }
    request.push(b']');
    for (name, value) in options {
        request.extend(format!(",{}:{value}", json!(name)).into_bytes());
    }
    request.push(b'}');
    request
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    docs: Vec<Tried>,
}

#[derive(Deserialize)]
struct Tried {
    doc: Option<Document>,
    error: Option<Cause>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "_id", default)]
    id: String,
    error: Option<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(default)]
    reason: Option<String>,
    caused_by: Option<Box<Cause>>,
}

impl Cause {
    /// The outer reason names the field, the innermost one says what is wrong with it.
    fn told(&self) -> String {
        let mut inner = self;
        while let Some(cause) = &inner.caused_by {
            inner = cause;
        }
        let outer = self.reason.as_deref().unwrap_or("no reason was given");
        match inner.reason.as_deref() {
            Some(inner) if !outer.contains(inner) => format!("{outer}: {inner}"),
            _ => outer.to_owned(),
        }
    }
}

fn refused(answer: &Answer) -> Result<Vec<Refused>, Error> {
    let mut found = Vec::new();
    for tried in &answer.docs {
        if let Some(cause) = &tried.error {
            return Err(Error::Malformed(cause.told()));
        }
        if let Some((document, cause)) = tried
            .doc
            .as_ref()
            .and_then(|document| Some((document, document.error.as_ref()?)))
        {
            found.push(Refused {
                key: document.id.clone(),
                reason: cause.told(),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_sent_digit_by_digit() {
        let trial = |key: &str, document: &str| Trial {
            key: Key::new(key),
            document: document.as_bytes().to_vec(),
        };
        let trials = [
            trial("a\"b", r#"{"n":12345678901234567890.10}"#),
            trial("c", "{}"),
        ];
        let options = Map::from_iter([("mapping_addition".to_owned(), json!({"x": 1}))]);
        let sent = String::from_utf8(request("v1", &trials, &options)).unwrap();
        assert_eq!(
            sent,
            r#"{"docs":[{"_index":"v1","_id":"a\"b","_source":{"n":12345678901234567890.10}},{"_index":"v1","_id":"c","_source":{}}],"mapping_addition":{"x":1}}"#
        );
    }

    #[test]
    fn a_refusal_has_the_field_and_the_innermost_reason() {
        // As 9.5 answers.
        let answer = json!({"docs": [
            {"doc": {"_id": "1", "error": {"type": "document_parsing_exception", "reason": "failed to parse field [n]",
                "caused_by": {"type": "illegal_argument_exception", "reason": "For input string: \"x\""}}}},
            {"doc": {"_id": "2"}},
        ]});
        let found = refused(&serde_json::from_value(answer).unwrap()).unwrap();
        assert_eq!(
            found,
            [Refused {
                key: "1".to_owned(),
                reason: "failed to parse field [n]: For input string: \"x\"".to_owned(),
            }]
        );
    }
}
