//! What a run needs of PostgreSQL that goes on with the stream of changes: the WAL, a slot, a
//! publication, the key in every change, and WAL that is kept neither too short nor for ever. Pure.

use super::{
    super::plan::{Facts, LostSlot, Names},
    finding::{Finding, Verdict},
    source::{held, see},
};
use crate::{
    elasticsearch::Phase,
    postgres::{
        catalog::{Publication, Table, create_publication_sql, quoted},
        retention::{Kept, Retention},
    },
};

/// Less kept WAL than this is gone within minutes of a bulk load.
const KEEP_BYTES_SMALL: u64 = 1 << 30;

pub(super) fn findings(facts: &Facts, retention: Option<&Retention>, list: &mut Vec<Finding>) {
    server(facts, list);
    replica_identity(facts, list);
    match &facts.publication {
        Some(publication) => publication_findings(facts, publication, list),
        None => list.push(no_publication(&facts.names, &facts.table)),
    }
    if let Some(retention) = retention {
        limits(retention, list);
        slot(facts, retention.kept.as_ref(), list);
    }
}

fn server(facts: &Facts, list: &mut Vec<Finding>) {
    let server = &facts.server;
    let role = quoted(&server.role);
    let standing = if server.in_recovery {
        "a standby"
    } else {
        "a primary"
    };
    list.push(see("server", standing).wanted("a primary").must(
        !server.in_recovery,
        "target_session_attrs=read-write  # in POSTGRES_URL, beside the address of the primary",
    ));
    list.push(see("wal_level", &server.wal_level).wanted("logical").must(
        server.wal_level == "logical",
        "ALTER SYSTEM SET wal_level = 'logical';  -- and restart PostgreSQL; or run with --snapshot-only",
    ));
    list.push(
        see("REPLICATION", held(server.may_replicate, "replicate"))
            .wanted("the attribute REPLICATION")
            .must(
                server.may_replicate,
                format!("ALTER ROLE {role} REPLICATION;  -- as a superuser"),
            ),
    );
    let begun = facts
        .run
        .as_ref()
        .is_some_and(|run| run.phase != Phase::Preparing);
    let makes_slot = facts.slot.is_none() && (!begun || facts.lost_slot != LostSlot::Stop);
    let wanted = if makes_slot { "one that is free" } else { "" };
    for (what, used, setting, or) in [
        (
            "replication slots",
            server.slots,
            "max_replication_slots",
            "SELECT pg_drop_replication_slot('…') for one of pg_replication_slots that nobody needs",
        ),
        (
            "WAL senders",
            server.senders,
            "max_wal_senders",
            "end one that pg_stat_replication shows and nobody needs",
        ),
    ] {
        let more = used.max + 10;
        list.push(
            see(what, format!("{} of {} in use", used.count, used.max))
                .wanted(wanted)
                .must(
                    used.is_one_free() || !makes_slot,
                    format!(
                        "ALTER SYSTEM SET {setting} = {more};  -- and restart PostgreSQL; or {or}"
                    ),
                ),
        );
    }
}

fn replica_identity(facts: &Facts, list: &mut Vec<Finding>) {
    let (key, table) = (&facts.key, &facts.table);
    let without: Vec<String> = key
        .unidentified
        .iter()
        .map(|unidentified| {
            let name = &unidentified.table;
            match &unidentified.index {
                Some(index) => {
                    let index = quoted(index);
                    format!("ALTER TABLE {name} REPLICA IDENTITY USING INDEX {index}")
                }
                None => format!("ALTER TABLE {name} REPLICA IDENTITY FULL"),
            }
        })
        .collect();
    let found = match key.unidentified.first() {
        None if key.identity_is_full => "the whole row".to_owned(),
        None => "has the key".to_owned(),
        Some(first) => format!("{} does not send the key with deletes", first.table),
    };
    // Without a unique index nothing can be said that would not be said twice.
    list.push(
        see("replica identity", found)
            .wanted(format!("one with {}", facts.names.key))
            .must(
                without.is_empty() || key.unique_index.is_none(),
                without.join("; "),
            ),
    );
    if table.out_of_line && !key.identity_is_full && without.is_empty() {
        list.push(
            see("out-of-line values", "some; an update that leaves one unchanged does not send it, and the row is read again")
                .wanted("REPLICA IDENTITY FULL, if that costs too much")
                .unless(
                    table.partitioned,
                    Verdict::Note,
                    format!("ALTER TABLE {} REPLICA IDENTITY FULL;  -- at the cost of more WAL: every update and delete then has the whole old row", table.quoted()),
                ),
        );
    }
}

fn no_publication(names: &Names, table: &Table) -> Finding {
    let found = if table.may_publish {
        format!("{} is not there; run creates it", names.publication)
    } else {
        format!(
            "{} is not there, and the role may not create it",
            names.publication
        )
    };
    see("publication", found)
        .wanted("one of the table, or the right to create it")
        .must(
            table.may_publish,
            format!(
                "{};  -- as the owner of the table",
                create_publication_sql(&names.publication, table)
            ),
        )
}

fn publication_findings(facts: &Facts, publication: &Publication, list: &mut Vec<Finding>) {
    let (table, names) = (&facts.table, &facts.names);
    let (name, publication_name) = (table.quoted(), quoted(&names.publication));
    let found = match &publication.table {
        Some(_) => format!("{} publishes the table", names.publication),
        None if table.partitioned && publication.has_table => {
            format!("{} publishes its partitions instead", names.publication)
        }
        None => format!("{} does not publish the table", names.publication),
    };
    let mut mend = Vec::new();
    if table.partitioned && !publication.via_root {
        mend.push(format!(
            "ALTER PUBLICATION {publication_name} SET (publish_via_partition_root = true)"
        ));
    }
    if !publication.has_table {
        mend.push(format!(
            "ALTER PUBLICATION {publication_name} ADD TABLE {name}"
        ));
    }
    list.push(
        see("publication", found)
            .wanted(format!("publishes {name} under its own name"))
            .must(publication.table.is_some(), mend.join("; ")),
    );
    let all = publication.all_operations;
    list.push(
        see("published", if all { "every kind of change" } else { "not every kind of change" })
            .wanted("insert, update, delete and truncate")
            .must(all, format!("ALTER PUBLICATION {publication_name} SET (publish = 'insert, update, delete, truncate')")),
    );
    let published = publication.table.as_ref();
    let columns = published.and_then(|table| table.columns.as_ref());
    // A key that the table does not have is another line's matter.
    let has_key = table.columns.iter().any(|column| column.name == names.key);
    let without_key = |columns: &&Vec<String>| has_key && !columns.contains(&names.key);
    if let Some(columns) = columns.filter(without_key) {
        let columns = columns.iter().chain([&names.key]).map(|name| quoted(name));
        let columns: Vec<String> = columns.collect();
        list.push(
            see("published key", format!("{} is left out", names.key))
                .wanted("the key among the published columns")
                .must(
                    false,
                    // SET TABLE would take the publication's other tables out.
                    format!(
                        "BEGIN; ALTER PUBLICATION {publication_name} DROP TABLE {name}; ALTER PUBLICATION {publication_name} ADD TABLE {name} ({}){}; COMMIT",
                        columns.join(", "),
                        published
                            .and_then(|table| table.row_filter.as_ref())
                            .map(|filter| format!(" WHERE {filter}"))
                            .unwrap_or_default(),
                    ),
                ),
        );
    }
}

fn limits(retention: &Retention, list: &mut Vec<Finding>) {
    let limit = retention.keep_bytes_max;
    let found = limit.map_or_else(
        || "no limit: a slot that nobody reads fills the disk".to_owned(),
        size,
    );
    list.push(
        see("max_slot_wal_keep_size", found)
            .wanted("what the disk can spare, and a long outage needs")
            .unless(
                limit.is_some_and(|limit| limit >= KEEP_BYTES_SMALL),
                Verdict::Warning,
                "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();  -- or what your disk can spare",
            ),
    );
    if let Some(timeout) = &retention.idle_timeout {
        list.push(
            see(
                "idle_replication_slot_timeout",
                format!("{timeout}: a longer outage loses the slot"),
            )
            .wanted("0")
            .unless(
                false,
                Verdict::Warning,
                "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf()",
            ),
        );
    }
}

/// The slot that is there; one that cannot be gone on with is the position's matter.
fn slot(facts: &Facts, kept: Option<&Kept>, list: &mut Vec<Finding>) {
    let (Some(slot), Some(kept)) = (&facts.slot, kept) else {
        return;
    };
    let bytes = kept.bytes.map_or("nothing".to_owned(), size);
    let reader = match slot.active_pid {
        Some(pid) => format!("process {pid} reads it"),
        None => "nobody reads it".to_owned(),
    };
    let status = slot.wal_status.as_deref().unwrap_or("unknown");
    let safe = kept.safe_bytes.map(|safe| {
        let safe = size(safe.try_into().unwrap_or_default());
        format!(", {safe} more are safe")
    });
    let invalidated = kept.invalidation.as_ref();
    let invalidated = invalidated.map(|why| format!(", invalidated: {why}"));
    let found = format!(
        "{status}, {reader}, it keeps {bytes} of WAL{}{}",
        safe.unwrap_or_default(),
        invalidated.unwrap_or_default()
    );
    let verdict = match status {
        "reserved" if slot.active_pid.is_some() => Verdict::Ok,
        "reserved" | "extended" => Verdict::Note,
        _ => Verdict::Warning,
    };
    let name = facts.names.slot.replace('\'', "''");
    list.push(
        see("slot", found)
            .wanted("reserved, and read by sync-es")
            .unless(
                verdict == Verdict::Ok,
                verdict,
                format!("sync-es run  # it reads on; or, to give it up: SELECT pg_drop_replication_slot('{name}')"),
            ),
    );
}

/// Bytes as PostgreSQL writes them in settings, rounded down.
fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GB"), (20, "MB"), (10, "kB")];
    for (shift, unit) in UNITS {
        if bytes >> shift > 0 {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}
