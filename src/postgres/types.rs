//! Which type has this OID? The catalog's answer, resolved down to base types.
//!
//! Two queries a level: arrays, domains, ranges and composites name further types, which the next
//! level asks for. Every name is qualified, so no `search_path` has a say.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio_postgres::{Client, Row};

use crate::value::{Field, Scalar, Type, TypeKind};

/// How many types may lie one inside the other; it bounds the decoder's recursion. PostgreSQL lets
/// no type contain itself, so only a deliberate catalog comes near it.
const DEPTH_MAX: usize = 32;

/// Types that cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The catalog could not be read.
    #[error("the types of the columns cannot be read from pg_catalog.pg_type")]
    Query(#[from] tokio_postgres::Error),
    /// A type that is in no catalog: dropped since its OID was learned.
    #[error("there is no type with OID {oid}: it was dropped; read the table's columns again")]
    Missing {
        /// The OID that was asked for.
        oid: u32,
    },
    /// Types within types without an end in sight.
    #[error("type {name} lies more than {DEPTH_MAX} types deep inside another")]
    TooDeep {
        /// The type's name.
        name: String,
    },
}

/// Resolves types by OID, with all that they are made of. A type that cannot be brought over is
/// resolved too: [`Type::obstacle`] tells.
///
/// # Errors
/// The catalog cannot be read, or a type does not exist or is nested too deep.
pub async fn resolve(
    client: &Client,
    oids: &[u32],
) -> Result<HashMap<u32, Arc<Type>>, ResolveError> {
    let mut entries = HashMap::new();
    let mut wanted: Vec<u32> = oids
        .iter()
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    while !wanted.is_empty() {
        let read = read_level(client, &wanted).await?;
        let members: BTreeSet<u32> = read.values().flat_map(Entry::members).collect();
        entries.extend(read);
        wanted = members
            .into_iter()
            .filter(|oid| !entries.contains_key(oid))
            .collect();
    }
    build_all(&entries, oids)
}

/// What `pg_type` says of a type, its members still named by OID.
#[derive(Debug)]
struct Entry {
    name: String,
    kind: EntryKind,
}

#[derive(Debug)]
enum EntryKind {
    Base(TypeKind),
    Array(u32),
    Domain(u32),
    Range(u32),
    Multirange(u32),
    Composite(Vec<(String, u32)>),
}

impl Entry {
    fn members(&self) -> Vec<u32> {
        match &self.kind {
            EntryKind::Base(_) => Vec::new(),
            EntryKind::Array(oid)
            | EntryKind::Domain(oid)
            | EntryKind::Range(oid)
            | EntryKind::Multirange(oid) => vec![*oid],
            EntryKind::Composite(fields) => fields.iter().map(|(_, oid)| *oid).collect(),
        }
    }
}

async fn read_level(client: &Client, oids: &[u32]) -> Result<HashMap<u32, Entry>, ResolveError> {
    const TYPES: &str = "\
        SELECT t.oid, pg_catalog.format_type(t.oid, NULL) AS name, t.typtype, t.typelem, \
               t.typbasetype, r.rngsubtype, s.prosrc AS send, \
               l.lanname OPERATOR(pg_catalog.=) 'internal' AS send_is_built_in \
        FROM pg_catalog.pg_type t \
        LEFT JOIN pg_catalog.pg_proc s ON s.oid OPERATOR(pg_catalog.=) t.typsend \
        LEFT JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) s.prolang \
        LEFT JOIN pg_catalog.pg_range r ON r.rngtypid OPERATOR(pg_catalog.=) t.oid \
                                        OR r.rngmultitypid OPERATOR(pg_catalog.=) t.oid \
        WHERE t.oid OPERATOR(pg_catalog.=) ANY ($1)";
    const ATTRIBUTES: &str = "\
        SELECT t.oid, a.attname::pg_catalog.text AS name, a.atttypid \
        FROM pg_catalog.pg_type t \
        JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) t.typrelid \
        WHERE t.oid OPERATOR(pg_catalog.=) ANY ($1) AND t.typtype OPERATOR(pg_catalog.=) 'c' \
              AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped \
        ORDER BY t.oid, a.attnum";
    let mut entries = HashMap::new();
    for row in client.query(TYPES, &[&oids]).await? {
        entries.insert(row.try_get("oid")?, entry(&row)?);
    }
    let has_composite = |entry: &Entry| matches!(entry.kind, EntryKind::Composite(_));
    if entries.values().any(has_composite) {
        for row in client.query(ATTRIBUTES, &[&oids]).await? {
            let composite = entries.get_mut(&row.try_get("oid")?);
            if let Some(EntryKind::Composite(fields)) = composite.map(|entry| &mut entry.kind) {
                fields.push((row.try_get("name")?, row.try_get("atttypid")?));
            }
        }
    }
    Ok(entries)
}

/// Reads a row of `pg_type`; a composite's attributes come later.
fn entry(row: &Row) -> Result<Entry, tokio_postgres::Error> {
    let send: Option<String> = row.try_get("send")?;
    let send_is_built_in: Option<bool> = row.try_get("send_is_built_in")?;
    let kind = match u8::try_from(row.try_get::<_, i8>("typtype")?) {
        Ok(b'e') => EntryKind::Base(TypeKind::Enum),
        Ok(b'd') => EntryKind::Domain(row.try_get("typbasetype")?),
        Ok(b'c') => EntryKind::Composite(Vec::new()),
        Ok(b'r') => EntryKind::Range(row.try_get("rngsubtype")?),
        Ok(b'm') => EntryKind::Multirange(row.try_get("rngsubtype")?),
        _ => base(
            send.as_deref(),
            send_is_built_in == Some(true),
            row.try_get("typelem")?,
        ),
    };
    Ok(Entry {
        name: row.try_get("name")?,
        kind,
    })
}

/// A base type or an array, by its send function's source: the name of the C function behind it,
/// whatever SQL calls it (`citextsend` is `textsend`). `typelem` alone does not make an array: `point`
/// and `name` have one too.
fn base(send: Option<&str>, is_built_in: bool, element: u32) -> EntryKind {
    EntryKind::Base(match send {
        None => TypeKind::Scalar(Scalar::SentAsText),
        Some("array_send" | "int2vectorsend" | "oidvectorsend") if is_built_in => {
            return EntryKind::Array(element);
        }
        Some(send) => {
            let known = if is_built_in {
                Scalar::written_by(send)
            } else {
                Scalar::written_by_extension(send)
            };
            let send = send.to_owned();
            known.map_or(TypeKind::Opaque { send }, TypeKind::Scalar)
        }
    })
}

fn build_all(
    entries: &HashMap<u32, Entry>,
    oids: &[u32],
) -> Result<HashMap<u32, Arc<Type>>, ResolveError> {
    oids.iter()
        .map(|oid| Ok((*oid, build(entries, *oid, 1)?)))
        .collect()
}

fn build(entries: &HashMap<u32, Entry>, oid: u32, depth: usize) -> Result<Arc<Type>, ResolveError> {
    let entry = entries.get(&oid).ok_or(ResolveError::Missing { oid })?;
    if depth > DEPTH_MAX {
        let name = entry.name.clone();
        return Err(ResolveError::TooDeep { name });
    }
    let member = |oid: u32| build(entries, oid, depth + 1);
    let kind = match &entry.kind {
        EntryKind::Base(kind) => kind.clone(),
        EntryKind::Array(element) => TypeKind::Array(member(*element)?),
        EntryKind::Domain(base) => TypeKind::Domain(member(*base)?),
        EntryKind::Range(subtype) => TypeKind::Range(member(*subtype)?),
        EntryKind::Multirange(subtype) => TypeKind::Multirange(member(*subtype)?),
        EntryKind::Composite(fields) => {
            let fields = fields.iter().map(|(name, oid)| {
                Ok(Field {
                    name: name.clone(),
                    ty: member(*oid)?,
                })
            });
            TypeKind::Composite(fields.collect::<Result<_, ResolveError>>()?)
        }
    };
    Ok(Arc::new(Type {
        oid,
        name: entry.name.clone(),
        kind,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(entries: Vec<(u32, &str, EntryKind)>) -> HashMap<u32, Entry> {
        let entry = |(oid, name, kind): (u32, &str, EntryKind)| {
            let name = name.to_owned();
            (oid, Entry { name, kind })
        };
        entries.into_iter().map(entry).collect()
    }

    #[test]
    fn a_type_is_built_down_to_its_base_types() {
        let entries = catalog(vec![
            (23, "integer", base(Some("int4send"), true, 0)),
            (100, "positive", EntryKind::Domain(23)),
            (101, "pair", EntryKind::Composite(vec![("a".into(), 100)])),
            (102, "pair[]", base(Some("array_send"), true, 101)),
        ]);
        let types = build_all(&entries, &[102, 23]).expect("all are there");
        let TypeKind::Array(pair) = &types[&102].kind else {
            panic!("not an array: {:?}", types[&102]);
        };
        let TypeKind::Composite(fields) = &pair.kind else {
            panic!("not a composite: {pair:?}");
        };
        assert_eq!(fields[0].ty.kind, TypeKind::Domain(types[&23].clone()));
    }

    #[test]
    fn a_type_that_contains_itself_is_an_error_and_no_endless_walk() {
        let entries = catalog(vec![(1, "loop", EntryKind::Domain(1))]);
        let error = build_all(&entries, &[1]).expect_err("endless");
        assert!(matches!(error, ResolveError::TooDeep { .. }), "{error}");
    }

    #[test]
    fn a_type_that_is_gone_is_named_by_its_oid() {
        let entries = catalog(vec![(1, "gone[]", EntryKind::Array(4711))]);
        let error = build_all(&entries, &[1]).expect_err("gone");
        assert!(
            matches!(error, ResolveError::Missing { oid: 4711 }),
            "{error}"
        );
    }

    #[test]
    fn an_extensions_function_of_a_built_in_ones_name_is_not_taken_for_it() {
        let kind = base(Some("textsend"), false, 0);
        let EntryKind::Base(TypeKind::Opaque { send }) = kind else {
            panic!("taken for text: {kind:?}");
        };
        assert_eq!(send, "textsend");
    }
}
