//! The types that a column can have: what the catalog says, resolved to what the decoder needs.
//!
//! A base type is known by the C function behind its send function (`pg_proc.prosrc`), not by its
//! name: the function alone decides the binary form, and an extension's type that reuses one of
//! PostgreSQL's (citext: `textsend`) is read without being listed here.

use std::sync::Arc;

/// A column's, element's or member's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// `pg_type.oid`.
    pub oid: u32,
    /// The name as `format_type` prints it, for messages.
    pub name: String,
    /// What it is made of.
    pub kind: TypeKind,
}

/// How a type's binary form is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    /// A base type that the decoder knows.
    Scalar(Scalar),
    /// An enum: its label is sent as text.
    Enum,
    /// An array of any dimension.
    Array(Arc<Type>),
    /// A domain: the form of its base type.
    Domain(Arc<Type>),
    /// A composite (row) type, its live attributes in order.
    Composite(Vec<Field>),
    /// A range over the subtype.
    Range(Arc<Type>),
    /// A multirange over ranges of the subtype.
    Multirange(Arc<Type>),
    /// A base type with a send function whose form the decoder does not know.
    Opaque {
        /// The C function that sends it.
        send: String,
    },
}

/// A member of a composite type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The attribute's name.
    pub name: String,
    /// Its type.
    pub ty: Arc<Type>,
}

/// The base types whose binary form the decoder reads, one a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// Unsigned 32-bit numbers: `oid`, `regclass` and the other `reg…` types, `xid`, `cid`.
    Oid,
    /// `xid8`: unsigned, 64 bits.
    Xid8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`
    Numeric,
    /// `money`: a count of the smallest unit.
    Money,
    /// Any type sent as bare text: `text`, `varchar`, `char(n)`, `name`, `xml`, `citext`.
    Text,
    /// `"char"`: one byte.
    Char,
    /// Text behind a version byte: `jsonpath`, `ltree`, `lquery`, `ltxtquery`.
    VersionedText,
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
    /// `bytea`, and the statistics types that are sent like it.
    Bytea,
    /// `uuid`
    Uuid,
    /// `bit(n)` and `bit varying`
    Bit,
    /// `date`
    Date,
    /// `time`
    Time,
    /// `time with time zone`
    TimeTz,
    /// `timestamp`
    Timestamp,
    /// `timestamp with time zone`
    TimestampTz,
    /// `interval`
    Interval,
    /// `inet`
    Inet,
    /// `cidr`
    Cidr,
    /// `macaddr` and `macaddr8`
    MacAddr,
    /// `point`
    Point,
    /// `line`
    Line,
    /// `lseg`
    LineSegment,
    /// `box`
    Box,
    /// `path`
    Path,
    /// `polygon`
    Polygon,
    /// `circle`
    Circle,
    /// `tsvector`
    TsVector,
    /// `tsquery`
    TsQuery,
    /// `pg_lsn`
    PgLsn,
    /// `tid`
    Tid,
    /// `pg_snapshot` and `txid_snapshot`
    Snapshot,
    /// pgvector's `vector`
    Vector,
    /// pgvector's `halfvec`
    HalfVector,
    /// pgvector's `sparsevec`
    SparseVector,
    /// `hstore`
    Hstore,
    /// A type without a send function (`aclitem`): it travels in its text form.
    SentAsText,
}

/// Why values of a type cannot be brought over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// An array, range or composite over a type without a send function: the server itself fails
    /// when it sends such a value, and with it ends the replication stream (`array_send` and
    /// `record_send` in PostgreSQL's source look up the member's function when they run).
    #[error(
        "type {container} holds {member}, which has no binary form: PostgreSQL would end the \
         stream with an error; leave the column out of the publication (give it a column list)"
    )]
    MemberWithoutSend {
        /// The type that holds the member.
        container: String,
        /// The member's type.
        member: String,
    },
    /// An extension's type: its bytes arrive, but their meaning is not known.
    #[error(
        "type {name} is sent by {send}, a binary form that is not known; drop the column from the \
         document's shape, or keep its text in a column of type text"
    )]
    UnknownForm {
        /// The type's name.
        name: String,
        /// The C function that sends it.
        send: String,
    },
}

impl Type {
    /// Whether the values arrive as text although binary was asked for: pgoutput sends a type
    /// without a send function as kind `t`, and a query must cast it to `text`.
    #[must_use]
    pub fn sent_as_text(&self) -> bool {
        match &self.kind {
            TypeKind::Scalar(scalar) => *scalar == Scalar::SentAsText,
            TypeKind::Domain(base) => base.sent_as_text(),
            _ => false,
        }
    }

    /// Whether a column of this type can be the key: its values have a text form each. A float has
    /// none that is exact, and a value of many parts none at all.
    #[must_use]
    pub fn can_be_key(&self) -> bool {
        match &self.kind {
            TypeKind::Scalar(scalar) => scalar.can_be_key(),
            TypeKind::Enum => true,
            TypeKind::Domain(base) => base.can_be_key(),
            TypeKind::Array(_)
            | TypeKind::Composite(_)
            | TypeKind::Range(_)
            | TypeKind::Multirange(_)
            | TypeKind::Opaque { .. } => false,
        }
    }

    /// What stands against bringing values of this type over; to be asked before anything starts.
    /// [`Obstacle::UnknownForm`] hinders only whoever reads the value, [`Obstacle::MemberWithoutSend`]
    /// the whole table.
    #[must_use]
    pub fn obstacle(&self) -> Option<Obstacle> {
        match &self.kind {
            TypeKind::Scalar(_) | TypeKind::Enum => None,
            TypeKind::Opaque { send } => Some(Obstacle::UnknownForm {
                name: self.name.clone(),
                send: send.clone(),
            }),
            TypeKind::Domain(base) => base.obstacle(),
            TypeKind::Array(member) | TypeKind::Range(member) | TypeKind::Multirange(member) => {
                self.member_obstacle(member)
            }
            TypeKind::Composite(fields) => worst(
                fields
                    .iter()
                    .filter_map(|field| self.member_obstacle(&field.ty)),
            ),
        }
    }

    /// What stands against a member of this type.
    fn member_obstacle(&self, member: &Type) -> Option<Obstacle> {
        if member.sent_as_text() {
            return Some(Obstacle::MemberWithoutSend {
                container: self.name.clone(),
                member: member.name.clone(),
            });
        }
        member.obstacle()
    }
}

/// The obstacle that hinders most: one that stops the server goes before one that stops a reader.
fn worst(obstacles: impl Iterator<Item = Obstacle>) -> Option<Obstacle> {
    obstacles.reduce(|first, next| match first {
        Obstacle::MemberWithoutSend { .. } => first,
        Obstacle::UnknownForm { .. } if matches!(next, Obstacle::UnknownForm { .. }) => first,
        Obstacle::UnknownForm { .. } => next,
    })
}

impl Scalar {
    fn can_be_key(self) -> bool {
        !matches!(
            self,
            Self::Float4
                | Self::Float8
                | Self::Json
                | Self::Jsonb
                | Self::Point
                | Self::Line
                | Self::LineSegment
                | Self::Box
                | Self::Path
                | Self::Polygon
                | Self::Circle
                | Self::Vector
                | Self::HalfVector
                | Self::Hstore
        )
    }

    /// The form that a send function of PostgreSQL itself (`LANGUAGE internal`) writes.
    #[must_use]
    pub fn written_by(send: &str) -> Option<Self> {
        Some(match send {
            "boolsend" => Self::Bool,
            "int2send" => Self::Int2,
            "int4send" => Self::Int4,
            "int8send" => Self::Int8,
            "oidsend" | "xidsend" | "cidsend" | "regclasssend" | "regcollationsend"
            | "regconfigsend" | "regdatabasesend" | "regdictionarysend" | "regnamespacesend"
            | "regopersend" | "regoperatorsend" | "regprocsend" | "regproceduresend"
            | "regrolesend" | "regtypesend" => Self::Oid,
            "xid8send" => Self::Xid8,
            "float4send" => Self::Float4,
            "float8send" => Self::Float8,
            "numeric_send" => Self::Numeric,
            "cash_send" => Self::Money,
            "textsend" | "varcharsend" | "bpcharsend" | "namesend" | "unknownsend" | "xml_send"
            | "pg_node_tree_send" => Self::Text,
            "charsend" => Self::Char,
            "jsonpath_send" => Self::VersionedText,
            "json_send" => Self::Json,
            "jsonb_send" => Self::Jsonb,
            "byteasend"
            | "pg_ndistinct_send"
            | "pg_dependencies_send"
            | "pg_mcv_list_send"
            | "brin_bloom_summary_send"
            | "brin_minmax_multi_summary_send" => Self::Bytea,
            "uuid_send" => Self::Uuid,
            "bit_send" | "varbit_send" => Self::Bit,
            "date_send" => Self::Date,
            "time_send" => Self::Time,
            "timetz_send" => Self::TimeTz,
            "timestamp_send" => Self::Timestamp,
            "timestamptz_send" => Self::TimestampTz,
            "interval_send" => Self::Interval,
            "inet_send" => Self::Inet,
            "cidr_send" => Self::Cidr,
            "macaddr_send" | "macaddr8_send" => Self::MacAddr,
            "point_send" => Self::Point,
            "line_send" => Self::Line,
            "lseg_send" => Self::LineSegment,
            "box_send" => Self::Box,
            "path_send" => Self::Path,
            "poly_send" => Self::Polygon,
            "circle_send" => Self::Circle,
            "tsvectorsend" => Self::TsVector,
            "tsquerysend" => Self::TsQuery,
            "pg_lsn_send" => Self::PgLsn,
            "tidsend" => Self::Tid,
            "pg_snapshot_send" | "txid_snapshot_send" => Self::Snapshot,
            _ => return None,
        })
    }

    /// The form that an extension's send function (`LANGUAGE C`) writes.
    #[must_use]
    pub fn written_by_extension(send: &str) -> Option<Self> {
        Some(match send {
            "vector_send" => Self::Vector,
            "halfvec_send" => Self::HalfVector,
            "sparsevec_send" => Self::SparseVector,
            "hstore_send" => Self::Hstore,
            "ltree_send" | "lquery_send" | "ltxtq_send" => Self::VersionedText,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(name: &str, kind: TypeKind) -> Type {
        Type {
            oid: 1,
            name: name.into(),
            kind,
        }
    }

    fn aclitem() -> Type {
        ty("aclitem", TypeKind::Scalar(Scalar::SentAsText))
    }

    fn cube() -> Type {
        let send = "cube_send".into();
        ty("cube", TypeKind::Opaque { send })
    }

    #[test]
    fn a_domain_over_a_type_without_send_function_travels_as_text_too() {
        let domain = ty("grantee", TypeKind::Domain(Arc::new(aclitem())));
        assert!(domain.sent_as_text());
        assert_eq!(domain.obstacle(), None);
    }

    #[test]
    fn an_array_over_a_type_without_send_function_cannot_be_sent() {
        let array = ty("aclitem[]", TypeKind::Array(Arc::new(aclitem())));
        assert!(!array.sent_as_text());
        let expected = Obstacle::MemberWithoutSend {
            container: "aclitem[]".into(),
            member: "aclitem".into(),
        };
        assert_eq!(array.obstacle(), Some(expected));
    }

    #[test]
    fn a_member_that_stops_the_server_is_named_before_one_of_unknown_form() {
        let field = |ty| Field {
            name: "f".into(),
            ty: Arc::new(ty),
        };
        let composite = TypeKind::Composite(vec![field(cube()), field(aclitem())]);
        let obstacle = ty("pair", composite).obstacle();
        assert!(matches!(obstacle, Some(Obstacle::MemberWithoutSend { .. })));
    }

    #[test]
    fn a_form_that_is_not_known_is_named_with_its_send_function() {
        let array = ty("cube[]", TypeKind::Array(Arc::new(cube())));
        let message = array.obstacle().expect("cube is not known").to_string();
        assert!(
            message.contains("type cube is sent by cube_send"),
            "{message}"
        );
    }
}
