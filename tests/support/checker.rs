//! Is the index equal to the table? Judged by PostgreSQL, on the program's output alone.
//!
//! The alias is read through a point in time, the bytes of every `_source` are copied into a temporary
//! table as `jsonb`, and PostgreSQL compares them with the documents that a query makes of the rows.
//! `jsonb` keeps numbers as exact decimals, so nothing is lost on the way to the comparison; nothing
//! here shares code with the program.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;

use super::{search::Hit, world::World};

/// Differences that are reported in full.
const SHOWN: i64 = 5;

/// What an index should hold: a query over the table with the columns `id text` and `document jsonb`.
pub(crate) struct Truth(String);

/// How an index differs from its table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    /// Documents in the index.
    pub(crate) documents: u64,
    /// Rows without a document.
    pub(crate) missing: u64,
    /// Documents without a row.
    pub(crate) extra: u64,
    /// Documents that are not their row's.
    pub(crate) different: u64,
    examples: Vec<String>,
}

impl Truth {
    /// The documents of `integrated_records`: the address and the location are objects, money is
    /// a string, everything else is a field of its column's name.
    pub(crate) fn organizations() -> Self {
        Self::organizations_with(&[])
    }

    /// [`Self::organizations`] with further fields.
    pub(crate) fn organizations_with(further: &[(&str, &str)]) -> Self {
        let mut fields: Vec<(&str, String)> = [
            "hk",
            "name",
            "legal_name",
            "description",
            "website",
            "emails",
            "phones",
            "industry_codes",
            "source_systems",
            "employee_count",
            "founded_on",
            "identifiers",
            "attributes",
            "embedding",
        ]
        .map(|column| (column, format!("to_jsonb({column})")))
        .into();
        fields.extend([
            (
                "address",
                "nullif(jsonb_strip_nulls(jsonb_build_object('street', street, 'city', city, \
                 'region', region, 'postal_code', postal_code, 'country_code', country_code)), '{}')"
                    .to_owned(),
            ),
            (
                "location",
                "CASE WHEN latitude IS NOT NULL AND longitude IS NOT NULL \
                 THEN jsonb_build_object('lat', latitude, 'lon', longitude) END"
                    .to_owned(),
            ),
            ("annual_revenue", "to_jsonb(annual_revenue::text)".to_owned()),
            ("created_at", time("created_at")),
            ("updated_at", time("updated_at")),
        ]);
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(field, value)| (*field, value.as_str()))
            .collect();
        let fields = [&fields, further].concat();
        Self::of("integrated_records", "hk", &fields)
    }

    /// The documents of any table: the key, and for each field the SQL expression of its value.
    /// A field whose value is NULL is not in the document.
    pub(crate) fn of(table: &str, key: &str, fields: &[(&str, &str)]) -> Self {
        let fields: Vec<String> = fields
            .iter()
            .map(|(field, value)| format!("('{field}', {value})"))
            .collect();
        Self(format!(
            "SELECT {key}::text AS id,
                    (SELECT coalesce(jsonb_object_agg(field, value), '{{}}')
                       FROM (VALUES {}) AS fields (field, value)
                      WHERE value IS NOT NULL) AS document
               FROM {table}",
            fields.join(", ")
        ))
    }

    /// The query itself.
    pub(crate) fn query(&self) -> &str {
        &self.0
    }
}

/// A `timestamptz` in UTC with a `Z`, its fraction without trailing zeros.
fn time(column: &str) -> String {
    format!("to_jsonb(replace(to_jsonb({column}) #>> '{{}}', '+00:00', 'Z'))")
}

/// Fails the test, showing what differs, unless the alias holds what `truth` says.
pub(crate) async fn assert_equal(world: &World, truth: &Truth) {
    let differences = compare(world, world.alias(), truth).await;
    assert!(differences.none(), "{differences}");
}

/// Compares an index or alias with the table as both now are.
pub(crate) async fn compare(world: &World, index: &str, truth: &Truth) -> Differences {
    world
        .execute(
            "SET timezone = 'UTC';
             DROP TABLE IF EXISTS pg_temp.actual;
             CREATE TEMPORARY TABLE actual (id text NOT NULL, source jsonb NOT NULL)",
        )
        .await;
    let copy = "COPY pg_temp.actual (id, source) FROM STDIN";
    let mut sink = Box::pin(world.db.copy_in::<_, Bytes>(copy).await.unwrap());
    let mut documents = 0;
    world
        .search
        .scan(index, async |page| {
            documents += page.len() as u64;
            sink.send(copy_lines(page)).await.unwrap();
        })
        .await;
    sink.as_mut().finish().await.unwrap();
    judge(world, truth, documents).await
}

async fn judge(world: &World, truth: &Truth, documents: u64) -> Differences {
    let query = format!(
        "WITH expected AS MATERIALIZED ({}),
              judged AS (
                SELECT id, e.document, a.source,
                       CASE WHEN a.source IS NULL THEN 'missing'
                            WHEN e.document IS NULL THEN 'extra'
                            ELSE 'different' END AS how
                  FROM expected AS e FULL JOIN pg_temp.actual AS a USING (id)
                 WHERE e.document IS DISTINCT FROM a.source),
              numbered AS (
                SELECT *, count(*) OVER (PARTITION BY how) AS total,
                       row_number() OVER (PARTITION BY how ORDER BY id) AS number
                  FROM judged)
         SELECT how, total, id,
                (SELECT string_agg(format('%s: expected %s, found %s', key,
                                          left(e.value::text, 300), left(a.value::text, 300)), E'\\n  ')
                   FROM jsonb_each(coalesce(document, '{{}}')) AS e
                   FULL JOIN jsonb_each(coalesce(source, '{{}}')) AS a USING (key)
                  WHERE e.value IS DISTINCT FROM a.value AND how = 'different')
           FROM numbered WHERE number <= {SHOWN} ORDER BY how, number",
        truth.0
    );
    let rows = world
        .db
        .query(&query, &[])
        .await
        .unwrap_or_else(|error| panic!("{query}\n{error:?}"));
    let mut differences = Differences {
        documents,
        ..Differences::default()
    };
    for row in rows {
        let (how, total, id): (&str, i64, &str) = (row.get(0), row.get(1), row.get(2));
        let total = u64::try_from(total).unwrap();
        match how {
            "missing" => differences.missing = total,
            "extra" => differences.extra = total,
            _ => differences.different = total,
        }
        let fields: Option<&str> = row.get(3);
        differences
            .examples
            .push(format!("{how} {id:?}\n  {}", fields.unwrap_or_default()));
    }
    differences
}

/// Lines of COPY's text format (manual: "COPY", "Text Format"): a backslash and the characters that
/// structure the format are escaped.
fn copy_lines(page: &[Hit<'_>]) -> Bytes {
    let mut lines = BytesMut::new();
    for hit in page {
        escape(&hit.id, &mut lines);
        lines.put_u8(b'\t');
        escape(hit.source.get(), &mut lines);
        lines.put_u8(b'\n');
    }
    lines.freeze()
}

fn escape(text: &str, line: &mut BytesMut) {
    for byte in text.bytes() {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            byte => line.put_u8(byte),
        }
    }
}

impl Differences {
    /// Whether index and table are equal.
    pub(crate) fn none(&self) -> bool {
        (self.missing, self.extra, self.different) == (0, 0, 0)
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} documents; {} missing, {} extra, {} different",
            self.documents, self.missing, self.extra, self.different
        )?;
        self.examples
            .iter()
            .try_for_each(|example| writeln!(f, "{example}"))
    }
}
