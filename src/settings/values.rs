//! One function a kind of value: text in, value or what is expected out. None repeats its input.

use std::{fmt, ops::RangeInclusive};

use url::Url;

/// A table's full name, unquoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Schema; `public` when none was given.
    pub schema: String,
    /// Table.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// When a new index gets the graph by which its vectors are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum VectorIndex {
    /// With each document.
    Immediate,
    /// Once, when all rows are in and before the alias points to it.
    Deferred,
}

/// What is done about a slot that is gone, or whose WAL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LostSlot {
    /// A person is asked.
    Stop,
    /// The index is compared with the table and mended, and a new slot gone on with.
    Heal,
    /// The next generation of the index is filled and takes the alias over, which is also done after a failover.
    Rebuild,
}

/// Where the admin address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// Nowhere.
    Off,
    /// `host:port`.
    At(String),
}

/// `host:port`, or `off`.
pub(super) fn admin_address(text: &str) -> Result<AdminAddress, String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("off") {
        return Ok(AdminAddress::Off);
    }
    text.rsplit_once(':')
        .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        .map(|_| AdminAddress::At(text.to_owned()))
        .ok_or_else(|| "expected host:port, such as 127.0.0.1:9464, or off".to_owned())
}

/// PostgreSQL cuts longer names off without an error (`NAMEDATALEN` − 1).
const NAME_BYTES_MAX: usize = 63;

/// `name` or `schema.name`; parts that are not quoted fold to lower case, as in SQL.
pub(super) fn table(text: &str) -> Result<TableName, String> {
    let expected = "expected a table as in SQL: table, schema.table or \"Quoted\".\"Table\"";
    match identifiers(text).as_deref() {
        Some([name]) => Ok(TableName {
            schema: "public".to_owned(),
            name: name.clone(),
        }),
        Some([schema, name]) => Ok(TableName {
            schema: schema.clone(),
            name: name.clone(),
        }),
        _ => Err(expected.to_owned()),
    }
}

/// One name, as in SQL.
pub(super) fn identifier(text: &str) -> Result<String, String> {
    match identifiers(text).as_deref() {
        Some([name]) => Ok(name.clone()),
        _ => {
            Err("expected one name as in SQL, of at most 63 bytes: name or \"Quoted Name\"".into())
        }
    }
}

/// The slot's name. PostgreSQL allows no others.
pub(super) fn slot(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 63 of the characters a-z, 0-9 and _".to_owned())
    }
}

/// The slot's name when none was given.
pub(super) fn slot_for(alias: &str) -> String {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    let name = format!("sync_es_{alias}");
    name.chars().map(allowed).take(NAME_BYTES_MAX).collect()
}

/// The publication's name when none was given.
pub(super) fn publication_for(table: &TableName) -> String {
    let mut name = format!("sync_es_{}", table.name);
    while name.len() > NAME_BYTES_MAX {
        name.pop();
    }
    name
}

/// A name that Elasticsearch takes for an index or an alias (its `validateIndexOrAliasName`).
pub(super) fn index_name(text: &str) -> Result<String, String> {
    let forbidden = |c: char| {
        c.is_uppercase() || c.is_whitespace() || c.is_control() || "\\/*?\"<>|,#:".contains(c)
    };
    if text.is_empty()
        || text.len() > 255
        || text == "."
        || text == ".."
        || text.starts_with(['-', '_', '+'])
        || text.contains(forbidden)
    {
        return Err(
            "expected a name of 1 to 255 bytes in lower case that does not begin with -, _ \
                    or + and has no space and none of \\ / * ? \" < > | , # :"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// The base address of a collector.
pub(super) fn collector_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).ok();
    url.filter(|url| is_base(url) && !has_credentials(url) && !url.path().contains("v1/traces"))
        .ok_or_else(|| {
            "expected http://host:port or https://host:port, without v1/traces, which is added"
                .to_owned()
        })
}

/// A node of Elasticsearch. Credentials in it would go wherever the URL is shown, so they are refused.
pub(super) fn node_url(text: &str) -> Result<Url, String> {
    let expected =
        || "expected http://host:port or https://host:port, separated by commas".to_owned();
    let url = Url::parse(text.trim()).map_err(|_| expected())?;
    if has_credentials(&url) {
        return Err(
            "a URL must not hold a user name or password; set ELASTICSEARCH_USERNAME and \
                    ELASTICSEARCH_PASSWORD, or ELASTICSEARCH_API_KEY"
                .to_owned(),
        );
    }
    if is_base(&url) {
        Ok(url)
    } else {
        Err(expected())
    }
}

/// Whether requests can be made under it.
fn is_base(url: &Url) -> bool {
    let is_http = matches!(url.scheme(), "http" | "https");
    is_http && url.has_host() && url.query().is_none() && url.fragment().is_none()
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// A whole number in `range`.
pub(super) fn whole(
    range: RangeInclusive<u32>,
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    move |text| {
        text.trim()
            .parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                format!(
                    "expected a whole number from {} to {}",
                    range.start(),
                    range.end()
                )
            })
    }
}

/// A duration in seconds.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let range = 0.0..=3600.0;
    let number: Option<f64> = text.trim().parse().ok();
    number
        .filter(|seconds| range.contains(seconds))
        .ok_or_else(|| "expected a number of seconds from 0 to 3600".to_owned())
}

/// Yes or no.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("expected 0 or 1".to_owned()),
    }
}

/// A level or directives, as `tracing_subscriber` reads them.
pub(super) fn filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        _ => Err(
            "expected error, warn, info, debug or trace, or directives such as \
                  info,sync_es::delivery=debug"
                .to_owned(),
        ),
    }
}

/// A name as SQL must quote it; plain where it needs no quotes.
fn quoted(name: &str) -> String {
    if plain(name) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

fn plain(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'$')
}

/// The names of a dotted, possibly quoted SQL name, or `None` when it is none.
fn identifiers(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text.trim();
    loop {
        let (name, after) = first_identifier(rest)?;
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
            return None;
        }
        names.push(name);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(names),
            None => return None,
        }
    }
}

fn first_identifier(text: &str) -> Option<(String, &str)> {
    if let Some(mut rest) = text.strip_prefix('"') {
        let mut name = String::new();
        loop {
            let (part, after) = rest.split_once('"')?;
            name.push_str(part);
            match after.strip_prefix('"') {
                Some(more) => {
                    name.push('"');
                    rest = more;
                }
                None => return Some((name, after)),
            }
        }
    }
    let end = text.find('.').unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    let starts = |c: char| c.is_alphabetic() || c == '_';
    let continues = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let valid = name.starts_with(starts) && name.chars().all(continues);
    // PostgreSQL folds ASCII only when the encoding has several bytes a character.
    valid.then(|| (name.to_ascii_lowercase(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(schema: &str, name: &str) -> TableName {
        TableName {
            schema: schema.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_table_is_named_as_in_sql() {
        assert_eq!(table("organizations"), Ok(name("public", "organizations")));
        assert_eq!(table("Gold.Records"), Ok(name("gold", "records")));
        assert_eq!(
            table(r#""Gold"."we""ird.; drop""#),
            Ok(name("Gold", r#"we"ird.; drop"#))
        );
        for wrong in ["", "a.", ".a", "a b", "a.b.c", "\"a", "\"\"", "1a", "a;b"] {
            assert!(table(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_table_prints_so_that_sql_reads_it_back() {
        for text in ["gold.records", r#""Gold"."we""ird.; drop""#, "public._a$1"] {
            let parsed = table(text).unwrap();
            assert_eq!(parsed.to_string(), text);
            assert_eq!(table(&parsed.to_string()), Ok(parsed));
        }
    }

    #[test]
    fn derived_names_are_names_that_postgresql_takes() {
        assert_eq!(slot_for("my-alias.v2"), "sync_es_my_alias_v2");
        assert!(slot(&slot_for(&"é".repeat(200))).is_ok());
        assert!(slot("Sync").is_err() && slot("").is_err());
        let long = publication_for(&name("public", &"é".repeat(31)));
        assert!(identifier(&long).is_ok() && long.len() <= NAME_BYTES_MAX);
    }

    #[test]
    fn an_index_name_is_one_that_elasticsearch_takes() {
        for right in ["integrated_records_v1", ".hidden", "a+b-c", "日本"] {
            assert!(index_name(right).is_ok(), "{right}");
        }
        for wrong in [
            "", "A", "_a", "-a", "+a", ".", "..", "a b", "a*", "a,b", "a:b", "a#",
        ] {
            assert!(index_name(wrong).is_err(), "{wrong}");
        }
        assert!(index_name(&"a".repeat(256)).is_err());
    }

    #[test]
    fn a_node_url_holds_no_credentials() {
        assert!(node_url("https://es.example:9200/prefix").is_ok());
        for wrong in [
            "es:9200",
            "ftp://es",
            "http://",
            "http://u:p@es",
            "http://es/?a=b",
            "",
        ] {
            assert!(node_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_collector_has_a_base_address() {
        assert!(collector_url("http://127.0.0.1:4318").is_ok());
        for wrong in [
            "127.0.0.1:4318",
            "grpc://host",
            "http://u:p@host",
            "http://host/?a",
            "http://host:4318/v1/traces",
        ] {
            assert!(collector_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_keep_to_their_range() {
        let number = whole(1..=10);
        assert_eq!(number(" 10 "), Ok(10));
        for wrong in ["0", "11", "-1", "1.0", "ten", ""] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
        assert_eq!(seconds("0.5"), Ok(0.5));
        for wrong in ["-1", "NaN", "inf", "3601", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
