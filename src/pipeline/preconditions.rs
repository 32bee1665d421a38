//! What must be so before anything is changed: each thing with what was found and what mends it.
//! Pure: facts in, a list out; the same list for a run and for whoever only asks.

use super::plan::{Facts, Mode};
use crate::{
    elasticsearch::Phase,
    postgres::catalog::{Publication, create_publication_sql, quoted},
    stop::Precondition,
};

/// The oldest server that sends binary values in pgoutput.
const SERVER_VERSION_MIN: u32 = 140_000;

/// What has to be mended; empty when nothing has to.
#[must_use]
pub fn preconditions(facts: &Facts) -> Vec<Precondition> {
    let mut unmet = Unmet::default();
    let (server, table, names) = (&facts.server, &facts.table, &facts.names);
    let name = table.quoted();
    let key = names.key.as_str();
    let quoted_key = quoted(key);
    unmet.need(
        server.version >= SERVER_VERSION_MIN,
        format!("PostgreSQL {} is older than 14", server.version / 10_000),
        "upgrade PostgreSQL".to_owned(),
    );
    unmet.need(
        table.is_table,
        format!("{name} is not an ordinary or partitioned table"),
        "name a table in POSTGRES_TABLE".to_owned(),
    );
    unmet.need(
        table.may_select,
        format!("the role may not read {name}"),
        format!("GRANT SELECT ON {name} TO CURRENT_ROLE;  -- as its owner, naming the role"),
    );
    unmet.need(
        !table.row_security,
        format!("row security hides rows of {name} from the role"),
        "ALTER ROLE … BYPASSRLS;  -- for the role that sync-es connects as".to_owned(),
    );
    let column = table.columns.iter().find(|column| column.name == key);
    unmet.need(
        column.is_some(),
        format!("{name} has no column {key:?} (or it is generated)"),
        "name the key column in POSTGRES_KEY_COLUMN".to_owned(),
    );
    let not_null = column.is_none_or(|column| column.not_null);
    unmet.need(
        not_null,
        format!("key column {key:?} of {name} may be NULL"),
        format!("ALTER TABLE {name} ALTER COLUMN {quoted_key} SET NOT NULL"),
    );
    let unique = column.is_none() || facts.key.unique_index.is_some();
    unmet.need(
        unique,
        format!(
            "{name} has no unique index on {key:?} alone that is valid, unconditional and not deferrable"
        ),
        format!("ALTER TABLE {name} ADD PRIMARY KEY ({quoted_key})"),
    );
    if facts.mode == Mode::Continuous {
        unmet.need_for_stream(facts);
    }
    unmet.0
}

/// What was found otherwise than it must be.
#[derive(Default)]
struct Unmet(Vec<Precondition>);

impl Unmet {
    fn need(&mut self, met: bool, found: String, mend: String) {
        if !met {
            self.0.push(Precondition { found, mend });
        }
    }

    fn need_for_stream(&mut self, facts: &Facts) {
        let (server, table, names) = (&facts.server, &facts.table, &facts.names);
        let name = table.quoted();
        self.need(
            !server.in_recovery,
            "PostgreSQL is a standby".to_owned(),
            "connect to the primary (target_session_attrs=read-write)".to_owned(),
        );
        let logical = server.wal_level == "logical";
        self.need(logical, format!("wal_level is {}", server.wal_level), "ALTER SYSTEM SET wal_level = logical;  -- and restart PostgreSQL; or run with --snapshot-only".to_owned());
        self.need(
            server.may_replicate,
            "the role may not replicate".to_owned(),
            "ALTER ROLE … REPLICATION;  -- for the role that sync-es connects as".to_owned(),
        );
        let begins = facts
            .run
            .as_ref()
            .is_none_or(|run| run.phase == Phase::Preparing);
        let slots = facts.slots;
        self.need(
            facts.slot.is_some() || !begins || slots.used < slots.max,
            format!(
                "all {} replication slots are in use, and a new one is needed",
                slots.max
            ),
            format!(
                "ALTER SYSTEM SET max_replication_slots = {};  -- and restart PostgreSQL; or drop one that nobody needs (SELECT * FROM pg_replication_slots WHERE NOT active)",
                slots.max + 1
            ),
        );
        let identity = format!(
            "the replica identity of {name} does not include the key {:?}: deletes could not be told",
            names.key
        );
        let index = facts
            .key
            .unique_index
            .as_deref()
            .map_or("…".to_owned(), quoted);
        self.need(
            facts.key.in_replica_identity || facts.key.unique_index.is_none(),
            identity,
            format!("ALTER TABLE {name} REPLICA IDENTITY USING INDEX {index}"),
        );
        match &facts.publication {
            Some(publication) => self.need_of_publication(facts, publication),
            None => self.need(
                table.may_publish,
                format!(
                    "publication {} does not exist, and the role may not create it",
                    quoted(&names.publication)
                ),
                format!(
                    "{};  -- as the owner of the table",
                    create_publication_sql(&names.publication, table)
                ),
            ),
        }
    }

    fn need_of_publication(&mut self, facts: &Facts, publication: &Publication) {
        let (table, names) = (&facts.table, &facts.names);
        let (name, publication_name) = (table.quoted(), quoted(&names.publication));

        let anew = || {
            format!(
                "DROP PUBLICATION {publication_name}; {}",
                create_publication_sql(&names.publication, table)
            )
        };
        self.need(
            publication.table.is_some(),
            format!("publication {publication_name} does not publish {name} under its own name"),
            format!(
                "ALTER PUBLICATION {publication_name} ADD TABLE {name};  -- for a partitioned table also: SET (publish_via_partition_root = true)"
            ),
        );
        self.need(
            publication.all_operations,
            format!(
                "publication {publication_name} does not publish all of insert, update, delete and truncate"
            ),
            format!(
                "ALTER PUBLICATION {publication_name} SET (publish = 'insert, update, delete, truncate')"
            ),
        );
        let columns = publication
            .table
            .as_ref()
            .and_then(|table| table.columns.as_ref());
        let has_key = columns.is_none_or(|columns| columns.contains(&names.key));
        self.need(
            has_key,
            format!(
                "publication {publication_name} leaves out the key {:?}",
                names.key
            ),
            anew(),
        );
    }
}
