//! PostgreSQL types to Elasticsearch mappings.
//!
//! What must hold: no value that the table can hold makes Elasticsearch refuse its document.
//! So every scalar that has values beyond its Elasticsearch type (`numeric` NaN, year 12026, an
//! address with a netmask) is mapped with `ignore_malformed`: the value stays in `_source` as it is
//! and is not indexed. Strings too long for a term are kept out of the index by `ignore_above`.
//! Pure. docs/document.md has the table for readers, docs/opensearch.md where OpenSearch falls short.

use serde_json::{Map, Value as Json, json};

use super::declaration::FieldType;
use crate::value::{Scalar, Type, TypeKind};

/// Lucene takes terms of up to 32,766 bytes; a character takes up to four.
const IGNORE_ABOVE: u32 = 8191;

/// As deep as Elasticsearch's JSON parser goes; the default of 20 would refuse deeper documents.
const FLATTENED_DEPTH: u32 = 1000;

/// The mapping that follows from a column's type.
pub(super) fn of_type(ty: &Type) -> Json {
    match &ty.kind {
        TypeKind::Scalar(scalar) => of_scalar(*scalar),
        TypeKind::Enum => keyword(),
        // Any field holds one value or many.
        TypeKind::Array(element) => of_type(element),
        TypeKind::Domain(base) => of_type(base),
        TypeKind::Composite(fields) => {
            if fields.iter().any(|field| unusual_name(&field.name)) {
                return unindexed();
            }
            let members = fields
                .iter()
                .map(|field| (field.name.clone(), of_type(&field.ty)));
            json!({ "properties": members.collect::<Map<_, _>>() })
        }
        TypeKind::Range(bound) | TypeKind::Multirange(bound) => of_range(ty.oid, bound),
        TypeKind::Opaque { .. } => unindexed(),
    }
}

/// The mapping of a declared type.
pub(super) fn of_field_type(asked: FieldType, dimensions: u32) -> Json {
    match asked {
        FieldType::Keyword => keyword(),
        FieldType::Text => text(),
        FieldType::Long => lenient("long"),
        FieldType::Double => lenient("double"),
        FieldType::Date => lenient("date"),
        FieldType::Ip => lenient("ip"),
        FieldType::Flattened => flattened(),
        FieldType::Object => json!({ "type": "object", "dynamic": true }),
        FieldType::DenseVector => json!({
            "type": "dense_vector",
            "dims": dimensions,
            "index": true,
            "similarity": "cosine",
        }),
        FieldType::Unindexed => unindexed(),
    }
}

/// The mapping of a point made of two columns.
pub(super) fn geo_point() -> Json {
    json!({ "type": "geo_point" })
}

/// The types that can be declared for a column.
pub(super) fn possible(ty: &Type) -> Vec<FieldType> {
    use FieldType as F;
    let mut possible = vec![F::Keyword, F::Text, F::Unindexed];
    if can_be_vector(ty) {
        possible.push(F::DenseVector);
    }
    possible.extend_from_slice(match &element(ty).kind {
        TypeKind::Composite(_) => &[F::Flattened, F::Object],
        TypeKind::Scalar(scalar) => match scalar {
            Scalar::Json | Scalar::Jsonb | Scalar::Hstore => &[F::Flattened, F::Object],
            Scalar::Text | Scalar::VersionedText | Scalar::SentAsText => {
                &[F::Long, F::Double, F::Date, F::Ip]
            }
            Scalar::Date | Scalar::Timestamp | Scalar::TimestampTz => &[F::Date],
            Scalar::Inet => &[F::Ip],
            scalar if is_numeric(*scalar) => &[F::Long, F::Double],
            _ => &[],
        },
        _ => &[],
    });
    possible
}

/// Whether a column is a vector without being declared one: pgvector's types are.
pub(super) fn is_vector(ty: &Type) -> bool {
    matches!(
        base(ty).kind,
        TypeKind::Scalar(Scalar::Vector | Scalar::HalfVector)
    )
}

/// Whether a column holds one number.
pub(super) fn is_number(ty: &Type) -> bool {
    matches!(base(ty).kind, TypeKind::Scalar(scalar) if is_numeric(scalar))
}

/// Whether a column is `jsonb` itself.
pub(super) fn is_jsonb(ty: &Type) -> bool {
    matches!(base(ty).kind, TypeKind::Scalar(Scalar::Jsonb))
}

/// Whether the type's binary form is the text itself.
pub(super) fn is_text(ty: &Type) -> bool {
    matches!(
        base(ty).kind,
        TypeKind::Scalar(Scalar::Text) | TypeKind::Enum
    )
}

/// The type of the texts that an array holds, if it holds texts.
pub(super) fn text_element(ty: &Type) -> Option<&Type> {
    match &base(ty).kind {
        TypeKind::Array(element) if is_text(element) => Some(element),
        _ => None,
    }
}

/// Whether a built-in mapping takes the values of a column whose own mapping would be `derived`:
/// the table may have another type than the built-in template expects.
pub(super) fn takes(built_in: &Json, derived: &Json) -> bool {
    kind_of_field(built_in) == kind_of_field(derived)
}

/// What a mapping takes: JSON objects, vectors, ranges, or single values.
fn kind_of_field(mapping: &Json) -> &str {
    match mapping["type"].as_str() {
        None => "object",
        Some(name @ ("flattened" | "object" | "dense_vector" | "geo_point" | "boolean")) => name,
        Some(name) if name.ends_with("_range") => name,
        Some(_) => "value",
    }
}

fn of_scalar(scalar: Scalar) -> Json {
    match scalar {
        Scalar::Bool => json!({ "type": "boolean" }),
        Scalar::Int2 => json!({ "type": "short" }),
        Scalar::Int4 => json!({ "type": "integer" }),
        Scalar::Int8 | Scalar::Oid | Scalar::Money => json!({ "type": "long" }),
        Scalar::Float4 | Scalar::Vector | Scalar::HalfVector => lenient("float"),
        Scalar::Float8 | Scalar::Numeric => lenient("double"),
        Scalar::Text => text(),
        Scalar::Json | Scalar::Jsonb | Scalar::Hstore => flattened(),
        Scalar::Bytea => json!({ "type": "binary" }),
        Scalar::Date | Scalar::Timestamp | Scalar::TimestampTz => lenient("date"),
        Scalar::Inet => lenient("ip"),
        Scalar::Cidr => json!({ "type": "ip_range" }),
        Scalar::Point => {
            json!({ "properties": { "x": lenient("double"), "y": lenient("double") } })
        }
        Scalar::Line
        | Scalar::LineSegment
        | Scalar::Box
        | Scalar::Path
        | Scalar::Polygon
        | Scalar::Circle => unindexed(),
        Scalar::Xid8
        | Scalar::Char
        | Scalar::VersionedText
        | Scalar::Uuid
        | Scalar::Bit
        | Scalar::Time
        | Scalar::TimeTz
        | Scalar::Interval
        | Scalar::MacAddr
        | Scalar::TsVector
        | Scalar::TsQuery
        | Scalar::PgLsn
        | Scalar::Tid
        | Scalar::Snapshot
        | Scalar::SparseVector
        | Scalar::SentAsText => keyword(),
    }
}

fn is_numeric(scalar: Scalar) -> bool {
    matches!(
        scalar,
        Scalar::Int2
            | Scalar::Int4
            | Scalar::Int8
            | Scalar::Float4
            | Scalar::Float8
            | Scalar::Numeric
    )
}

/// `int4range` and `int8range` have a range type that is as exact as they are. The others have not:
/// `date_range` counts milliseconds and ends in the year 9999, `double_range` rounds, and both
/// refuse the document when a bound does not parse or the rounded range is empty (`tstzrange` of
/// some microseconds, `daterange` up to and with 9999-12-31). So these are objects of bounds.
fn of_range(oid: u32, bound: &Type) -> Json {
    /// `pg_type.oid` of the built-in range types and their multiranges (`pg_type.dat`). A user's
    /// range over `integer` is another type: it is not canonical, so `(5,6)` is not empty there.
    const INT4: [u32; 2] = [3904, 4451];
    const INT8: [u32; 2] = [3926, 4536];
    if INT4.contains(&oid) {
        return json!({ "type": "integer_range" });
    }
    if INT8.contains(&oid) {
        return json!({ "type": "long_range" });
    }
    let bounds = ["gte", "gt", "lte", "lt"].map(|name| (name.to_owned(), of_type(bound)));
    json!({ "properties": Map::from_iter(bounds) })
}

fn can_be_vector(ty: &Type) -> bool {
    let ty = base(ty);
    let TypeKind::Array(element) = &ty.kind else {
        return is_vector(ty);
    };
    matches!(
        base(element).kind,
        TypeKind::Scalar(Scalar::Float4 | Scalar::Float8)
    )
}

/// The type under domains.
fn base(ty: &Type) -> &Type {
    match &ty.kind {
        TypeKind::Domain(inner) => base(inner),
        _ => ty,
    }
}

/// The type under domains and arrays.
fn element(ty: &Type) -> &Type {
    match &ty.kind {
        TypeKind::Domain(inner) | TypeKind::Array(inner) => element(inner),
        _ => ty,
    }
}

/// A member's name that Elasticsearch would take for a path, or for none.
fn unusual_name(name: &str) -> bool {
    name.contains('.') || name.trim().is_empty()
}

fn keyword() -> Json {
    json!({ "type": "keyword", "ignore_above": IGNORE_ABOVE })
}

fn text() -> Json {
    json!({ "type": "text", "fields": { "keyword": keyword() } })
}

fn flattened() -> Json {
    json!({ "type": "flattened", "ignore_above": IGNORE_ABOVE, "depth_limit": FLATTENED_DEPTH })
}

/// Any JSON may stand in it: Elasticsearch does not look inside.
fn unindexed() -> Json {
    json!({ "type": "object", "enabled": false })
}

fn lenient(name: &str) -> Json {
    json!({ "type": name, "ignore_malformed": true })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::value::Field;

    #[test]
    fn a_type_is_mapped_by_what_it_is_made_of() {
        let enumeration = || ty(70_000, "mood", TypeKind::Enum);
        let domain = TypeKind::Domain(array_of(Scalar::Bool));
        let member = |name: &str, ty| Field {
            name: name.to_owned(),
            ty,
        };
        let composite = |name| TypeKind::Composite(vec![member(name, enumeration())]);
        for (kind, expected) in [
            (TypeKind::Enum, keyword()),
            (domain, json!({ "type": "boolean" })),
            (composite("m"), json!({ "properties": { "m": keyword() } })),
            (composite("m.n"), unindexed()),
            (
                TypeKind::Array(ty(1, "c", composite("m"))),
                json!({ "properties": { "m": keyword() } }),
            ),
        ] {
            assert_eq!(of_type(&ty(70_001, "t", kind)), expected);
        }
    }

    #[test]
    fn only_the_exact_ranges_are_range_fields() {
        let range = |oid, bound| of_type(&ty(oid, "r", TypeKind::Range(scalar(bound))));
        assert_eq!(range(3904, Scalar::Int4)["type"], "integer_range");
        assert_eq!(range(3926, Scalar::Int8)["type"], "long_range");
        let bounds = range(3910, Scalar::TimestampTz);
        for name in ["gt", "gte", "lt", "lte"] {
            assert_eq!(bounds["properties"][name], lenient("date"));
        }
        assert_eq!(
            range(70_000, Scalar::Int4)["properties"]["gt"]["type"],
            "integer"
        );
    }

    #[test]
    fn what_can_be_declared_follows_from_the_type() {
        use FieldType as F;
        let can = |ty: &Type, asked| possible(ty).contains(&asked);
        assert!(can(&scalar(Scalar::Jsonb), F::Object));
        assert!(can(&scalar(Scalar::Text), F::Ip));
        assert!(can(&array_of(Scalar::Int4), F::Keyword));
        assert!(can(&array_of(Scalar::Float8), F::DenseVector));
        assert!(can(&scalar(Scalar::HalfVector), F::DenseVector));
        assert!(!can(&array_of(Scalar::Int4), F::DenseVector));
        assert!(!can(&array_of(Scalar::Vector), F::DenseVector));
        assert!(!can(&scalar(Scalar::Bool), F::Long));
        assert!(!can(&scalar(Scalar::Text), F::Flattened));
    }
}
