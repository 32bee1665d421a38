//! Values that find mistakes: NULL beside empty, quotes, line breaks, every plane of Unicode, numbers
//! at their limits, values long enough to be stored out of line.

use std::collections::BTreeSet;

use rand::{Rng, RngExt, seq::IndexedRandom};
use tokio_postgres::types::ToSql;

/// A column of `integrated_records`, and how its values are made.
pub(crate) struct Column {
    /// The column's name.
    pub(crate) name: &'static str,
    /// The type of the parameter, and casts from it to the column's type.
    pub(crate) cast: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    LongText,
    Texts,
    Latitude,
    Longitude,
    Integer,
    Money,
    Date,
    Json,
    Embedding,
    Time,
}

/// Every column but the key.
pub(crate) const COLUMNS: [Column; 23] = [
    column("name", "text", Kind::Text),
    column("legal_name", "text", Kind::Text),
    column("description", "text", Kind::LongText),
    column("street", "text", Kind::Text),
    column("city", "text", Kind::Text),
    column("region", "text", Kind::Text),
    column("postal_code", "text", Kind::Text),
    column("country_code", "text", Kind::Text),
    column("website", "text", Kind::Text),
    column("latitude", "float8", Kind::Latitude),
    column("longitude", "float8", Kind::Longitude),
    column("emails", "text[]", Kind::Texts),
    column("phones", "text[]", Kind::Texts),
    column("industry_codes", "text[]", Kind::Texts),
    column("source_systems", "text[]", Kind::Texts),
    column("employee_count", "int4", Kind::Integer),
    column("annual_revenue", "text::numeric", Kind::Money),
    column("founded_on", "text::date", Kind::Date),
    column("identifiers", "text::jsonb", Kind::Json),
    column("attributes", "text::jsonb", Kind::Json),
    column("embedding", "float4[]", Kind::Embedding),
    column("created_at", "text::timestamptz", Kind::Time),
    column("updated_at", "text::timestamptz", Kind::Time),
];

const fn column(name: &'static str, cast: &'static str, kind: Kind) -> Column {
    Column { name, cast, kind }
}

/// A value on its way to PostgreSQL.
#[derive(Debug, Clone)]
pub(crate) enum Field {
    Text(Option<String>),
    Texts(Option<Vec<Option<String>>>),
    Integer(Option<i32>),
    Float(Option<f64>),
    Floats(Option<Vec<f32>>),
}

impl Field {
    /// The value as a statement's parameter.
    pub(crate) fn parameter(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Text(value) => value,
            Self::Texts(value) => value,
            Self::Integer(value) => value,
            Self::Float(value) => value,
            Self::Floats(value) => value,
        }
    }

    fn is_null(&self) -> bool {
        match self {
            Self::Text(value) => value.is_none(),
            Self::Texts(value) => value.is_none(),
            Self::Integer(value) => value.is_none(),
            Self::Float(value) => value.is_none(),
            Self::Floats(value) => value.is_none(),
        }
    }
}

/// Makes values for the columns of a table.
#[derive(Clone)]
pub(crate) struct Generator {
    /// Length of an embedding.
    pub(crate) dimensions: usize,
    /// Columns that are declared NOT NULL.
    pub(crate) required: BTreeSet<String>,
}

impl Generator {
    /// A value for `column`.
    pub(crate) fn value(&self, random: &mut impl Rng, column: &Column) -> Field {
        loop {
            let field = self.any(random, column.kind);
            if !field.is_null() || !self.required.contains(column.name) {
                return field;
            }
        }
    }

    fn any(&self, random: &mut impl Rng, kind: Kind) -> Field {
        let null = random.random_bool(0.08);
        match kind {
            Kind::Text => Field::Text((!null).then(|| text(random))),
            Kind::LongText => Field::Text((!null).then(|| long_text(random))),
            Kind::Texts => Field::Texts((!null).then(|| texts(random))),
            Kind::Latitude => Field::Float((!null).then(|| degrees(random, 90.0))),
            Kind::Longitude => Field::Float((!null).then(|| degrees(random, 180.0))),
            Kind::Integer => Field::Integer((!null).then(|| integer(random))),
            Kind::Money => Field::Text((!null).then(|| money(random))),
            Kind::Date => Field::Text((!null).then(|| date(random))),
            Kind::Json => Field::Text((!null).then(|| json_object(random, 3))),
            Kind::Embedding => Field::Floats((!null).then(|| embedding(random, self.dimensions))),
            Kind::Time => Field::Text((!null).then(|| time(random))),
        }
    }
}

/// A key of the workload's universe. Some hold what breaks a URL, a JSON string or a sort order.
pub(crate) fn key(number: usize) -> String {
    match number % 25 {
        0 => format!("org/{number} ü?&#%"),
        1 => format!("\"{number}\"\\"),
        2 => format!("line\nbreak {number}\t"),
        3 => format!("🏛️-{number}"),
        4 => format!("ORG-{number}"),
        5 => format!("-{number}"),
        6 => format!("'{number}' {{}}"),
        _ => format!("org-{number}"),
    }
}

fn text(random: &mut impl Rng) -> String {
    const TEXTS: [&str; 16] = [
        "",
        " ",
        "Müller & Söhne GmbH",
        "株式会社日立製作所",
        "О́льга «Ромашка»",
        "say \"hello\" \\ world",
        "it's; DROP TABLE x; --",
        "two\nlines\r\nand a\ttab",
        "👩‍👩‍👧‍👦 🇩🇪 \u{10FFFD}",
        "\u{1}\u{8}\u{c}\u{1f}\u{7f}\u{2028}\u{2029}\u{feff}",
        "null",
        "</script>&amp;",
        "{\"not\": \"an object\"}",
        "0",
        "ｆｕｌｌ　ｗｉｄｔｈ",
        "e\u{301} is not \u{e9}",
    ];
    if random.random_bool(0.5) {
        (*TEXTS.choose(random).unwrap()).to_owned()
    } else {
        format!("Organization {}", random.random::<u32>())
    }
}

/// Sometimes long and without repetition, so that PostgreSQL stores it out of line.
fn long_text(random: &mut impl Rng) -> String {
    if random.random_bool(0.2) {
        let words = random.random_range(250..600);
        let words: Vec<String> = (0..words)
            .map(|_| format!("{:x}", random.random::<u64>()))
            .collect();
        words.join(" ")
    } else {
        text(random)
    }
}

fn texts(random: &mut impl Rng) -> Vec<Option<String>> {
    let length = random.random_range(0..5);
    (0..length)
        .map(|_| random.random_bool(0.95).then(|| text(random)))
        .collect()
}

fn integer(random: &mut impl Rng) -> i32 {
    match random.random_range(0..8) {
        0 => i32::MIN,
        1 => i32::MAX,
        2 => 0,
        _ => random.random(),
    }
}

fn degrees(random: &mut impl Rng, limit: f64) -> f64 {
    match random.random_range(0..8) {
        0 => limit,
        1 => -limit,
        2 => 0.0,
        3 => 1e-7,
        _ => random.random_range(-limit..limit),
    }
}

fn money(random: &mut impl Rng) -> String {
    const LIMITS: [&str; 7] = [
        "9999999999999999.99",
        "-9999999999999999.99",
        "0.00",
        "0.10",
        "-0.01",
        "9007199254740993.00",
        "1000000000000000.00",
    ];
    if random.random_bool(0.4) {
        (*LIMITS.choose(random).unwrap()).to_owned()
    } else {
        format!(
            "{}.{:02}",
            random.random_range(-1_000_000_000_i64..1_000_000_000_000),
            random.random_range(0..100)
        )
    }
}

fn date(random: &mut impl Rng) -> String {
    const LIMITS: [&str; 6] = [
        "0001-01-01",
        "9999-12-31",
        "1970-01-01",
        "1969-12-31",
        "2000-02-29",
        "1582-10-10",
    ];
    if random.random_bool(0.3) {
        (*LIMITS.choose(random).unwrap()).to_owned()
    } else {
        format!(
            "{:04}-{:02}-{:02}",
            random.random_range(1..=9999),
            random.random_range(1..=12),
            random.random_range(1..=28)
        )
    }
}

fn time(random: &mut impl Rng) -> String {
    const LIMITS: [&str; 6] = [
        "0001-01-01 00:00:00+00",
        "9999-12-31 23:59:59.999999+00",
        "1970-01-01 00:00:00+00",
        "1969-12-31 23:59:59.999999+00",
        "2024-02-29 12:30:00.1+05:45",
        "1900-01-01 00:00:00.000001-11",
    ];
    if random.random_bool(0.3) {
        (*LIMITS.choose(random).unwrap()).to_owned()
    } else {
        format!(
            "{} {:02}:00:00.{:06}+00",
            date(random),
            random.random_range(0..24),
            random.random_range(0..1_000_000)
        )
    }
}

/// An object in JSON text; numbers in it go beyond every machine type.
fn json_object(random: &mut impl Rng, depth: usize) -> String {
    let members = random.random_range(0..4);
    let members: Vec<String> = (0..members)
        .map(|number| {
            let name = ["duns", "lei", "Größe", "with space", "quote\\\"d", "a:b"]
                .choose(random)
                .unwrap();
            format!("\"{name}{number}\": {}", json(random, depth))
        })
        .collect();
    format!("{{{}}}", members.join(", "))
}

fn json(random: &mut impl Rng, depth: usize) -> String {
    const LEAVES: [&str; 14] = [
        "null",
        "true",
        "false",
        "0",
        "-0.0",
        "12345678901234567890123456789012345678901234567890",
        "9007199254740993",
        "0.1",
        "1.10",
        "-1.5e-20",
        "123456789.123456789123456789",
        "\"\"",
        "\"line\\nbreak \\u00fc \\ud83d\\ude00 \\\"\"",
        "9223372036854775808",
    ];
    match random.random_range(0..8) {
        0 if depth > 0 => json_object(random, depth - 1),
        1 if depth > 0 => {
            let length = random.random_range(0..4);
            let elements: Vec<String> = (0..length).map(|_| json(random, depth - 1)).collect();
            format!("[{}]", elements.join(", "))
        }
        _ => (*LEAVES.choose(random).unwrap()).to_owned(),
    }
}

/// A vector that cosine similarity accepts: finite, and not zero.
fn embedding(random: &mut impl Rng, dimensions: usize) -> Vec<f32> {
    (0..dimensions)
        .map(|place| match random.random_range(0..20) {
            0 if place > 0 => 0.0,
            1 if place > 0 => -0.0,
            2 => 1.0,
            3 => 1e-7,
            _ => {
                random.random_range(0.001_f32..1.0)
                    * if random.random_bool(0.5) { -1.0 } else { 1.0 }
            }
        })
        .collect()
}
