//! What is to be done, from the facts of both ends and the last run's record? Begin, resume the
//! snapshot, go on with the stream, or stop and say why. Pure: every rule about when a position may
//! be trusted stands here, and nowhere else.

use std::{fmt, sync::Arc};

use crate::{
    change::{Coverage, Lsn, Windows},
    elasticsearch::{Look, Phase, Run},
    postgres::{
        catalog::{KeyFacts, Publication, Server, Table},
        slot::Slot,
    },
    stop::Stop,
    value::Type,
};

/// How the program was asked to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Snapshot, then tail until stopped.
    Continuous,
    /// Snapshot only: no slot, no logical WAL.
    OneShot,
}

/// What is done when the changes that the slot would have streamed are gone, or may be after a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostSlot {
    /// A stop: a person is asked.
    Stop,
    /// Table and index are compared, what differs is mended, and a new slot gone on with. After a
    /// failover a stop: versions of two timelines do not compare.
    Heal,
    /// A stop for the run into this index; the next generation is filled, and gone on with.
    Rebuild,
}

/// The names that the settings give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The key column.
    pub key: String,
    /// The publication.
    pub publication: String,
    /// The replication slot.
    pub slot: String,
    /// The concrete index.
    pub index: String,
    /// The alias.
    pub alias: String,
}

/// What was found at both ends.
#[derive(Debug)]
pub struct Facts {
    /// How to run.
    pub mode: Mode,
    /// The settings' names.
    pub names: Names,
    /// The database that the connection is to.
    pub database: String,
    /// PostgreSQL.
    pub server: Server,
    /// The table.
    pub table: Table,
    /// A digest of its published columns.
    pub fingerprint: String,
    /// What makes its key fit.
    pub key: KeyFacts,
    /// The key column's type, if there is such a column.
    pub key_type: Option<Arc<Type>>,
    /// The publication, if there is one.
    pub publication: Option<Publication>,
    /// The publication and the partitions, to be compared later.
    pub coverage: Coverage,
    /// Why rows have come or gone since the run's snapshot without a change that the stream could
    /// tell, or may have.
    pub unseen: Option<String>,
    /// The slot, if there is one.
    pub slot: Option<Slot>,
    /// The index, if there is one.
    pub index: Option<Look>,
    /// The latest run of this mode into this index.
    pub run: Option<Run>,
    /// What is done when the slot is lost.
    pub lost_slot: LostSlot,
    /// The other index that the alias is on and that a service feeds, for a one-shot run: the alias is not
    /// its to take.
    pub fed: Option<Names>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// A snapshot from the first row.
    Begin {
        /// The slot is left over from a beginning that did not get further, or what it streams is not
        /// all that happened to the rows: it is dropped and made anew.
        drop_slot: bool,
    },
    /// The slot was lost behind a complete snapshot: the index is compared with the table and mended, and
    /// a new slot gone on with.
    Heal {
        /// The new slot is there already.
        slot_made: bool,
    },
    /// The snapshot goes on after the last acknowledged key.
    Resume,
    /// The snapshot is complete; what follows it goes on.
    Tail,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begin { drop_slot: false } => "snapshot from the first row",
            Self::Begin { drop_slot: true } => "snapshot from the first row, with a new slot",
            Self::Heal { slot_made: false } => "comparison and repair, with a new slot",
            Self::Heal { slot_made: true } => "comparison and repair",
            Self::Resume => "snapshot after the last acknowledged key",
            Self::Tail => "what follows a complete snapshot",
        })
    }
}

/// What to do.
///
/// # Errors
/// The stored position cannot be trusted, or something else stands under our names.
pub fn plan(facts: &Facts) -> Result<Plan, Stop> {
    check_index(facts)?;
    match (facts.mode, &facts.run) {
        (Mode::OneShot, Some(run))
            if run.phase == Phase::Snapshot && same_index(facts, run) && same_table(facts, run) =>
        {
            Ok(Plan::Resume)
        }
        (Mode::OneShot, Some(run))
            if run.phase == Phase::Sweep
                && deferred(facts)
                && same_index(facts, run)
                && same_table(facts, run) =>
        {
            Ok(Plan::Tail)
        }
        (Mode::OneShot, _) => Ok(Plan::Begin { drop_slot: false }),
        (Mode::Continuous, Some(run)) if run.phase == Phase::Preparing => {
            own_slot(facts, run)?;
            Ok(Plan::Begin {
                drop_slot: facts.slot.is_some(),
            })
        }
        (Mode::Continuous, Some(run)) => go_on(facts, run),
        (Mode::Continuous, None) => match &facts.slot {
            None => Ok(Plan::Begin { drop_slot: false }),
            Some(_) => Err(foreign_slot(
                &facts.names.slot,
                "no run into this index knows it",
            )),
        },
    }
}

/// Whether the index was loaded, and then the run ended before it had its vector graph.
fn deferred(facts: &Facts) -> bool {
    let index = facts.index.as_ref();
    index.is_some_and(|index| !index.deferred.is_empty())
}

/// A continuous run that has got as far as its slot.
fn go_on(facts: &Facts, run: &Run) -> Result<Plan, Stop> {
    let acknowledged = run
        .acknowledged_lsn
        .or(run.consistent_point)
        .unwrap_or_default();
    same_cluster(
        facts,
        &run.system_identifier,
        run.timeline,
        run.consistent_point,
    )?;
    same_history(facts, acknowledged)?;
    own_slot(facts, run)?;
    if run.heals_without_a_slot() {
        // Nothing rests on one that is there.
        return lost(facts, run, "replaced by one that no run has noted");
    }
    let slot = facts.names.slot.clone();
    let found = match &facts.slot {
        None => return lost(facts, run, "gone"),
        Some(found) if found.is_lost() => {
            let state = "invalidated (its WAL was removed: see max_slot_wal_keep_size)";
            return lost(facts, run, state);
        }
        Some(found) => found,
    };
    if let Some(confirmed) = found
        .confirmed_flush
        .filter(|&confirmed| confirmed > acknowledged)
    {
        return Err(Stop::SlotAhead {
            slot,
            confirmed,
            acknowledged,
        });
    }
    publishes(facts.publication.as_ref(), &facts.names.publication)?;
    if !same_index(facts, run) {
        return Err(index_replaced(facts));
    }
    match run.phase {
        _ if facts.unseen.is_some() => Ok(Plan::Begin { drop_slot: true }),
        Phase::Snapshot if !same_table(facts, run) => Ok(Plan::Begin { drop_slot: true }),
        Phase::Snapshot => Ok(Plan::Resume),
        Phase::Heal => Ok(Plan::Heal { slot_made: true }),
        _ => Ok(Plan::Tail),
    }
}

/// What the slot of this run would have streamed is gone.
fn lost(facts: &Facts, run: &Run, state: &str) -> Result<Plan, Stop> {
    if facts.lost_slot != LostSlot::Heal {
        return Err(Stop::SlotLost {
            slot: facts.names.slot.clone(),
            state: state.to_owned(),
            acknowledged: run
                .acknowledged_lsn
                .or(run.consistent_point)
                .unwrap_or_default(),
        });
    }
    publishes(facts.publication.as_ref(), &facts.names.publication)?;
    if !same_index(facts, run) {
        return Err(index_replaced(facts));
    }
    if run.phase == Phase::Snapshot {
        // There is not yet much to be mended.
        let drop_slot = facts.slot.is_some();
        return Ok(Plan::Begin { drop_slot });
    }
    Ok(Plan::Heal { slot_made: false })
}

/// The publication must be there and publish every kind of change of the table.
///
/// # Errors
/// What it lacks.
pub(super) fn publishes(publication: Option<&Publication>, name: &str) -> Result<(), Stop> {
    let lacks = match publication {
        None => "is gone",
        Some(publication) if publication.table.is_none() => "does not publish the table any more",
        Some(publication) if !publication.all_operations => {
            "does not publish all kinds of change any more"
        }
        Some(_) => return Ok(()),
    };
    Err(Stop::PublicationLost {
        publication: name.to_owned(),
        lacks,
    })
}

/// What stands under the index's name must be ours, of this table, with this version scheme.
///
/// # Errors
/// It is not.
pub(super) fn check_index(facts: &Facts) -> Result<(), Stop> {
    let Some(index) = &facts.index else {
        return Ok(());
    };
    let foreign = |why: String| {
        Err(Stop::ForeignIndex {
            index: index.index.clone(),
            why,
        })
    };
    let Some(meta) = &index.meta else {
        return foreign("was not made by sync-es".to_owned());
    };
    let of_the_run = || facts.run.as_ref().and_then(|run| run.consistent_point);
    let cluster = same_cluster(
        facts,
        &meta.system_identifier,
        meta.timeline,
        // The index is told it right after the record, and not again where that failed.
        meta.consistent_point.or_else(of_the_run),
    );
    if cluster
        .as_ref()
        .is_err_and(|stop| stop.lost_changes().is_none())
    {
        return cluster;
    }
    let (schema, name) = (&meta.relation.schema, &meta.relation.name);
    if meta.relation.oid != facts.table.oid {
        return foreign(format!(
            "was made from table {schema}.{name} with oid {}, not {}",
            meta.relation.oid, facts.table.oid
        ));
    }
    if meta.key_column != facts.names.key {
        return foreign(format!(
            "was made with key column {:?}, not {:?}",
            meta.key_column, facts.names.key
        ));
    }
    if meta.version_scheme != Windows::SCHEME {
        return foreign(format!(
            "was made with version scheme {:?}, not {:?}",
            meta.version_scheme,
            Windows::SCHEME
        ));
    }
    // Last, so that a failover does not hide that the index is another table's.
    cluster
}

/// Whether the server is the one that was read from up to now, which began at `consistent_point`.
fn same_cluster(
    facts: &Facts,
    system_identifier: &str,
    timeline: u32,
    consistent_point: Option<Lsn>,
) -> Result<(), Stop> {
    let server = &facts.server;
    let same_system = server.system_identifier == system_identifier;
    if same_system && server.timeline == timeline {
        return Ok(());
    }
    let told = |system: &str, timeline: u32| format!("cluster {system} on timeline {timeline}");
    let mut expected = told(system_identifier, timeline);
    let mut found = told(&server.system_identifier, server.timeline);
    let promoted = same_system
        && server.timeline > timeline
        && consistent_point.is_some_and(|point| server.wal_flush >= point);
    if promoted {
        // How far they are apart tells whether it is the server that is meant.
        let run = facts.run.as_ref();
        if let Some(acknowledged) = run.and_then(|run| run.acknowledged_lsn) {
            expected = format!("{expected} up to {acknowledged}");
        }
        found = format!("{found}, whose WAL ends at {}", server.wal_flush);
    }
    Err(Stop::OtherDatabase {
        expected,
        found,
        promoted,
    })
}

/// Only flushed WAL is streamed, so a server whose WAL ends before what it has sent was set back.
fn same_history(facts: &Facts, acknowledged: Lsn) -> Result<(), Stop> {
    let end = facts.server.wal_flush;
    if acknowledged <= end {
        return Ok(());
    }
    Err(Stop::OtherDatabase {
        expected: format!("a cluster that has sent its WAL up to {acknowledged}"),
        found: format!("set back to {end}, by a restored backup or a lost disk"),
        promoted: false,
    })
}

fn same_index(facts: &Facts, run: &Run) -> bool {
    facts
        .index
        .as_ref()
        .is_some_and(|index| run.index_uuid == index.uuid)
}

/// Neither rewritten nor of other columns since the snapshot began: a snapshot that is older than a
/// rewrite reads no rows, and its rows would have another shape.
fn same_table(facts: &Facts, run: &Run) -> bool {
    run.storage == facts.table.storage && run.relation_fingerprint == facts.fingerprint
}

fn index_replaced(facts: &Facts) -> Stop {
    let state = match &facts.index {
        None => "gone".to_owned(),
        Some(index) => format!("another one of the same name (UUID {})", index.uuid),
    };
    Stop::IndexReplaced {
        index: facts.names.index.clone(),
        state,
    }
}

/// The slot must be the one that the run made, and one that pgoutput of this database can be
/// streamed from. Another's would lose its changes to us, or be dropped.
fn own_slot(facts: &Facts, run: &Run) -> Result<(), Stop> {
    let Some(slot) = &facts.slot else {
        return Ok(());
    };
    if run.slot.as_ref() != Some(&facts.names.slot) {
        return Err(foreign_slot(
            &facts.names.slot,
            "the run into this index has another one",
        ));
    }
    streams_from(slot, &facts.names.slot, &facts.database)
}

/// The slot must be one that pgoutput of this database can be streamed from: another is not ours.
///
/// # Errors
/// It is not.
pub(super) fn streams_from(slot: &Slot, name: &str, database: &str) -> Result<(), Stop> {
    let why = if slot.plugin.as_deref() != Some("pgoutput") {
        "it is not a logical slot of pgoutput"
    } else if slot.database.as_deref() != Some(database) {
        "it belongs to another database"
    } else {
        return Ok(());
    };
    Err(foreign_slot(name, why))
}

fn foreign_slot(name: &str, why: &str) -> Stop {
    Stop::ForeignSlot {
        slot: name.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;
