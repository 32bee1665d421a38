//! A generation, looked at: the settings that decide whether acknowledged means stored, and what
//! its `_meta` says of its source. Pure: no I/O.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Error, Response, index::IndexError};
use crate::change::Lsn;

/// Where our part of an index's `_meta` stands; the rest of it is the user's.
const META_KEY: &str = "sync_es";
/// Where the fields stand that are to get their graph once the index is loaded: beside our part, so
/// that what replaces that leaves them alone.
const DEFERRED_KEY: &str = "sync_es_deferred";

/// What a generation says of itself: the source it was filled from, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// PostgreSQL's system identifier.
    pub system_identifier: String,
    /// The timeline on which it was filled.
    pub timeline: u32,
    /// The replication slot; none for an index that only one-shot runs have filled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// The slot's consistent point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistent_point: Option<Lsn>,
    /// The table.
    pub relation: RelationName,
    /// A digest of the published columns with their types.
    pub relation_fingerprint: String,
    /// The column whose text is the `_id`.
    pub key_column: String,
    /// How versions are made of LSNs ([`crate::change::Windows::SCHEME`]).
    pub version_scheme: String,
    /// The program's version that created the index.
    pub program_version: String,
    /// When it was created.
    pub created_at: Timestamp,
}

/// A table, named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationName {
    /// Schema name, unquoted.
    pub schema: String,
    /// Table name, unquoted.
    pub name: String,
    /// `pg_class.oid`.
    pub oid: u32,
}

/// An index as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Its name.
    pub index: String,
    /// Changes when an index of the same name is made anew, or a snapshot restored over it: that
    /// keeps `index.uuid`, and gives `index.history.uuid` after a slash.
    pub uuid: String,
    /// Our part of `_meta`; none when the index is not ours.
    pub meta: Option<Meta>,
    /// The aliases that are on it.
    pub aliases: Vec<String>,
    /// The mapping's `properties`.
    pub properties: Map<String, Value>,
    /// Vector fields that were loaded without a graph, with the mapping that they are to have.
    pub deferred: Map<String, Value>,
    /// `index.translog.durability`.
    pub durability: String,
    /// `index.refresh_interval`, if set.
    pub refresh_interval: Option<String>,
    /// `index.default_pipeline`, if set.
    pub default_pipeline: Option<String>,
    /// `index.final_pipeline`, if set.
    pub final_pipeline: Option<String>,
    /// The settings that block writes into it and are on.
    pub blocks: Vec<&'static str>,
    /// The whole of `_meta`, kept when our part is written.
    all_meta: Map<String, Value>,
}

/// The `_meta` of an index that has nothing in it but our part.
pub(super) fn meta_of(meta: &Meta) -> Map<String, Value> {
    Map::from_iter([(META_KEY.to_owned(), json!(meta))])
}

/// The `_meta` of an index that is to be loaded before these fields get their graph.
pub(super) fn meta_deferring(meta: &Meta, fields: &Map<String, Value>) -> Map<String, Value> {
    let mut all = meta_of(meta);
    if !fields.is_empty() {
        all.insert(DEFERRED_KEY.to_owned(), json!(fields));
    }
    all
}

impl Look {
    /// The answer to `GET /name?flat_settings=true`.
    pub(crate) fn read(answer: &Response, name: &str) -> Result<Self, IndexError> {
        let found: BTreeMap<String, Found> = answer.json()?;
        match found.into_iter().next() {
            Some((index, found)) if index == name => found.into_look(index),
            Some((index, _)) => Err(IndexError::Alias {
                name: name.to_owned(),
                index,
            }),
            None => Err(Error::Malformed(format!("nothing about {name}")).into()),
        }
    }

    /// The answer to the same for a pattern of names.
    pub(crate) fn read_all(answer: &Response) -> Result<Vec<Self>, IndexError> {
        let found: BTreeMap<String, Found> = answer.json()?;
        let looks = found
            .into_iter()
            .map(|(index, found)| found.into_look(index));
        looks.collect()
    }

    /// The slot that it says it is filled from.
    #[must_use]
    pub fn slot(&self) -> Option<&str> {
        self.meta.as_ref()?.slot.as_deref()
    }

    /// The whole `_meta` with our part replaced.
    pub(super) fn with_meta(self, meta: &Meta) -> Map<String, Value> {
        let mut all = self.all_meta;
        all.extend(meta_of(meta));
        all
    }

    /// The whole `_meta` without fields that are to get a graph.
    pub(super) fn nothing_deferred(self) -> Map<String, Value> {
        let mut all = self.all_meta;
        all.remove(DEFERRED_KEY);
        all
    }

    /// Those of the deferred fields whose mapping has not been changed yet, with what it is to be.
    #[must_use]
    pub fn flat(&self) -> Map<String, Value> {
        let mut fields = self.deferred.clone();
        fields.retain(|name, _| {
            let field = self.properties.get(name);
            field.is_some_and(|field| field["index_options"]["type"] == "flat")
        });
        fields
    }

    /// Whether an acknowledged write is on disk, and the document written is the one that was sent.
    ///
    /// # Errors
    /// [`IndexError::NotDurable`], [`IndexError::Pipeline`].
    pub fn check_writes(&self) -> Result<(), IndexError> {
        if self.durability != "request" {
            return Err(IndexError::NotDurable {
                index: self.index.clone(),
                durability: self.durability.clone(),
            });
        }
        let pipelines = [
            ("index.default_pipeline", &self.default_pipeline),
            ("index.final_pipeline", &self.final_pipeline),
        ];
        for (setting, pipeline) in pipelines {
            // `_none` is how a pipeline is switched off.
            if let Some(pipeline) = pipeline.as_deref().filter(|&name| name != "_none") {
                return Err(IndexError::Pipeline {
                    index: self.index.clone(),
                    setting,
                    pipeline: pipeline.to_owned(),
                });
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    aliases: BTreeMap<String, Value>,
    #[serde(default)]
    mappings: Mappings,
    settings: Settings,
}

#[derive(Deserialize, Default)]
struct Mappings {
    #[serde(rename = "_meta", default)]
    meta: Map<String, Value>,
    #[serde(default)]
    properties: Map<String, Value>,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(rename = "index.uuid")]
    uuid: String,
    #[serde(rename = "index.history.uuid")]
    history: Option<String>,
    #[serde(rename = "index.translog.durability")]
    durability: Option<String>,
    #[serde(rename = "index.refresh_interval")]
    refresh_interval: Option<String>,
    #[serde(rename = "index.default_pipeline")]
    default_pipeline: Option<String>,
    #[serde(rename = "index.final_pipeline")]
    final_pipeline: Option<String>,
    #[serde(rename = "index.blocks.write")]
    write_blocked: Option<String>,
    #[serde(rename = "index.blocks.read_only")]
    read_only: Option<String>,
    #[serde(rename = "index.blocks.read_only_allow_delete")]
    read_only_allow_delete: Option<String>,
}

impl Settings {
    fn blocks(&self) -> Vec<&'static str> {
        let blocks = [
            ("index.blocks.write", &self.write_blocked),
            ("index.blocks.read_only", &self.read_only),
            (
                "index.blocks.read_only_allow_delete",
                &self.read_only_allow_delete,
            ),
        ];
        let on = blocks
            .into_iter()
            .filter(|(_, set)| set.as_deref() == Some("true"));
        on.map(|(name, _)| name).collect()
    }
}

impl Found {
    fn into_look(self, index: String) -> Result<Look, IndexError> {
        let Self {
            aliases,
            mappings,
            settings,
        } = self;
        let meta = mappings
            .meta
            .get(META_KEY)
            .map(Meta::deserialize)
            .transpose();
        let meta = meta.map_err(|source| IndexError::Meta {
            index: index.clone(),
            source,
        })?;
        let blocks = settings.blocks();
        let deferred = mappings.meta.get(DEFERRED_KEY);
        let deferred = deferred.and_then(Value::as_object);
        Ok(Look {
            index,
            uuid: match settings.history {
                Some(history) => format!("{}/{history}", settings.uuid),
                None => settings.uuid,
            },
            meta,
            aliases: aliases.into_keys().collect(),
            deferred: deferred.cloned().unwrap_or_default(),
            properties: mappings.properties,
            // Elasticsearch lists only what is set; this is its default.
            durability: settings.durability.map_or_else(
                || "request".to_owned(),
                |durability| durability.to_lowercase(),
            ),
            refresh_interval: settings.refresh_interval,
            default_pipeline: settings.default_pipeline,
            final_pipeline: settings.final_pipeline,
            blocks,
            all_meta: mappings.meta,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// What Elasticsearch 8.19.21 answers, shortened; `META` and `SETTINGS` are filled in.
    const ANSWER: &str = r#"{"v1":{"aliases":{"v":{}},"mappings":{"dynamic":"strict","_meta":META,
        "properties":{"n":{"type":"long"}}},"settings":{SETTINGS"index.creation_date":"1795563645076",
        "index.number_of_shards":"1","index.uuid":"0OmasNCtSgCARt2xGW6SDA"}}}"#;

    fn look(name: &str, meta: &str, settings: &str) -> Result<Look, IndexError> {
        let body = ANSWER.replace("META", meta).replace("SETTINGS", settings);
        let answer = Response {
            status: 200,
            retry_after: None,
            body: Bytes::from(body),
        };
        Look::read(&answer, name)
    }

    fn sample() -> Meta {
        Meta {
            system_identifier: "7436363636363636363".to_owned(),
            timeline: 1,
            slot: None,
            consistent_point: None,
            relation: RelationName {
                schema: "public".to_owned(),
                name: "t".to_owned(),
                oid: 16_385,
            },
            relation_fingerprint: "f".to_owned(),
            key_column: "hk".to_owned(),
            version_scheme: "s".to_owned(),
            program_version: "0.1.0".to_owned(),
            created_at: "2026-11-24T23:33:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn an_index_with_the_default_settings_keeps_what_it_acknowledges() {
        let look = look("v1", "{}", "").unwrap();
        assert_eq!(look.uuid, "0OmasNCtSgCARt2xGW6SDA");
        assert_eq!(look.meta, None);
        assert!(look.properties.contains_key("n"));
        look.check_writes().unwrap();
    }

    #[test]
    fn an_index_with_a_snapshot_restored_over_it_is_another_one() {
        let settings = r#""index.history.uuid":"g9-TtZ76Q1i_v6uzMNX36g","#;
        let look = look("v1", "{}", settings).unwrap();
        assert_eq!(look.uuid, "0OmasNCtSgCARt2xGW6SDA/g9-TtZ76Q1i_v6uzMNX36g");
    }

    #[test]
    fn asynchronous_durability_and_pipelines_are_named_errors() {
        let check = |settings| look("v1", "{}", settings).unwrap().check_writes();
        let durability = check(r#""index.translog.durability":"ASYNC","#);
        assert!(
            matches!(durability, Err(IndexError::NotDurable { durability, .. }) if durability == "async")
        );
        let pipeline = check(r#""index.final_pipeline":"drop","#);
        assert!(matches!(
            pipeline,
            Err(IndexError::Pipeline {
                setting: "index.final_pipeline",
                ..
            })
        ));
        check(r#""index.default_pipeline":"_none","index.translog.durability":"REQUEST","#)
            .unwrap();
    }

    #[test]
    fn our_part_of_meta_is_read_and_written_beside_the_users() {
        let ours = json!({"user": {"x": 1}, "sync_es": sample()}).to_string();
        let found = look("v1", &ours, "").unwrap();
        assert_eq!(found.meta, Some(sample()));
        let newer = Meta {
            slot: Some("s".to_owned()),
            consistent_point: Some(Lsn(8)),
            ..sample()
        };
        let all = found.with_meta(&newer);
        assert_eq!(all["user"], json!({"x": 1}));
        assert_eq!(Meta::deserialize(&all["sync_es"]).unwrap(), newer);
        let broken = look("v1", r#"{"sync_es":{"timeline":"x"}}"#, "");
        assert!(matches!(broken, Err(IndexError::Meta { .. })));
    }

    #[test]
    fn deferred_fields_stay_until_they_are_done_whatever_else_is_written() {
        let field = json!({"type": "dense_vector", "dims": 3});
        let fields = Map::from_iter([("n".to_owned(), field.clone()), ("e".to_owned(), field)]);
        let meta = json!(meta_deferring(&sample(), &fields)).to_string();
        let read = || {
            let mut found = look("v1", &meta, "").unwrap();
            let flat = json!({"type": "dense_vector", "index_options": {"type": "flat"}});
            found.properties.insert("e".to_owned(), flat);
            found
        };
        assert_eq!(read().deferred, fields);
        // The other one is mapped as it is to be.
        assert_eq!(
            read()
                .flat()
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>(),
            ["e"]
        );
        let kept = json!(read().with_meta(&sample())).to_string();
        assert_eq!(look("v1", &kept, "").unwrap().deferred, fields);
        let done = json!(read().nothing_deferred()).to_string();
        let done = look("v1", &done, "").unwrap();
        assert_eq!((done.deferred, done.meta), (Map::new(), Some(sample())));
        assert_eq!(meta_deferring(&sample(), &Map::new()), meta_of(&sample()));
    }

    #[test]
    fn an_alias_is_not_taken_for_an_index() {
        let found = look("v", "{}", "");
        assert!(matches!(found, Err(IndexError::Alias { index, .. }) if index == "v1"));
    }
}
