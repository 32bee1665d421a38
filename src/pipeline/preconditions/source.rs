//! PostgreSQL's server, the table and its key: what every run needs. Pure.

use super::{
    super::plan::Facts,
    finding::{End, Finding, Verdict},
};
use crate::{postgres::catalog::quoted, value::Type};

/// The oldest server that sends binary values in pgoutput.
const SERVER_VERSION_MIN: u32 = 140_000;

pub(super) fn see(what: &'static str, found: impl Into<String>) -> Finding {
    Finding::new(End::PostgreSql, what, found)
}

pub(super) fn findings(facts: &Facts, list: &mut Vec<Finding>) {
    let (server, table) = (&facts.server, &facts.table);
    let (name, role) = (table.quoted(), quoted(&server.role));
    let (major, minor) = (server.version / 10_000, server.version % 10_000);
    list.push(
        see("version", format!("{major}.{minor}"))
            .wanted("14 or newer")
            .must(
                server.version >= SERVER_VERSION_MIN,
                "upgrade PostgreSQL to 14 or newer",
            ),
    );
    let kind = match (table.is_table, table.partitioned) {
        (true, false) => "an ordinary table",
        (true, true) => "a partitioned table",
        (false, _) => "neither an ordinary nor a partitioned table",
    };
    list.push(
        see("table", format!("{name} is {kind}"))
            .wanted("an ordinary or partitioned table")
            .must(table.is_table, "POSTGRES_TABLE=…  # as schema.table"),
    );
    list.push(
        see("USAGE", held(table.may_use_schema, "look into the schema"))
            .wanted(format!("USAGE on schema {}", table.schema))
            .must(
                table.may_use_schema,
                format!("GRANT USAGE ON SCHEMA {} TO {role}", quoted(&table.schema)),
            ),
    );
    list.push(
        see("SELECT", held(table.may_select, "read the table"))
            .wanted(format!("SELECT on {name}"))
            .must(
                table.may_select,
                format!("GRANT SELECT ON {name} TO {role};  -- as its owner"),
            ),
    );
    let hidden = if table.row_security {
        format!("{name} hides rows from the role")
    } else {
        "hides no row from the role".to_owned()
    };
    list.push(
        see("row security", hidden)
            .wanted("every row is visible")
            .must(
                !table.row_security,
                format!("ALTER ROLE {role} BYPASSRLS;  -- as a superuser"),
            ),
    );
    key(facts, list);
    if !table.generated.is_empty() {
        let column = quoted(&table.generated[0]);
        list.push(
            see("generated columns", table.generated.join(", "))
                .wanted("none: PostgreSQL does not stream them, and documents go without them")
                .unless(
                    false,
                    Verdict::Note,
                    format!("ALTER TABLE {name} ALTER COLUMN {column} DROP EXPRESSION;  -- makes it an ordinary column, for a trigger to fill; one that is STORED"),
                ),
        );
    }
}

fn key(facts: &Facts, list: &mut Vec<Finding>) {
    let (table, key) = (&facts.table, facts.names.key.as_str());
    let (name, quoted_key) = (table.quoted(), quoted(key));
    let Some(column) = table.columns.iter().find(|column| column.name == key) else {
        let found = if table.generated.iter().any(|column| column == key) {
            "is generated"
        } else {
            "is not in the table"
        };
        list.push(
            see("key column", format!("{key} {found}"))
                .wanted(format!("an ordinary column of {name}"))
                .must(false, "POSTGRES_KEY_COLUMN=…  # the column's name"),
        );
        return;
    };
    let null = if column.not_null {
        "is NOT NULL"
    } else {
        "may be NULL"
    };
    list.push(
        see("key column", format!("{key} {null}"))
            .wanted("NOT NULL")
            .must(
                column.not_null,
                format!("ALTER TABLE {name} ALTER COLUMN {quoted_key} SET NOT NULL"),
            ),
    );
    list.extend(facts.key_type.as_deref().map(|ty| key_type(key, ty)));
    let index = facts.key.unique_index.as_deref();
    list.push(
        see("key index", index.unwrap_or("none that fits"))
            .wanted(format!(
                "a unique index on {key} alone that is valid, unconditional and not deferrable"
            ))
            .must(
                index.is_some(),
                format!("ALTER TABLE {name} ADD UNIQUE ({quoted_key})"),
            ),
    );
}

/// An index would be loaded, or stay empty, until the first row whose key has no form ends the run.
fn key_type(key: &str, ty: &Type) -> Finding {
    see("key type", format!("{key} is of type {}", ty.name))
        .wanted("a type whose values have one text form each")
        .must(
            ty.can_be_key(),
            "POSTGRES_KEY_COLUMN=…  # a column of whole numbers, numeric, text, uuid, dates or times that is NOT NULL and unique; or give this one such a type",
        )
}

/// Whether the role may do something, as a phrase.
pub(super) fn held(may: bool, what: &str) -> String {
    format!("the role may {}{what}", if may { "" } else { "not " })
}
