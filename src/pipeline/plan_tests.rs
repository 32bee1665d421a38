//! Every rule about when a position may be trusted.

use serde_json::{Map, json};

use super::*;
use crate::{
    elasticsearch::{Meta, RelationName, Response},
    postgres::catalog::{PublishedTable, TableColumn, Used},
    value::{Scalar, TypeKind},
};

const INDEX: &str = "integrated_records_v1";
const UUID: &str = "0OmasNCtSgCARt2xGW6SDA";
const CONSISTENT_POINT: Lsn = Lsn(0x100);
const ACKNOWLEDGED: Lsn = Lsn(0x200);

#[test]
fn what_was_never_synchronized_begins_with_a_slot_of_its_own() {
    assert_eq!(planned(&new()), Plan::Begin { drop_slot: false });
}

#[test]
fn an_index_without_a_run_or_a_slot_is_filled_anew() {
    let mut facts = new();
    facts.index = Some(index(UUID, Some(meta())));
    assert_eq!(planned(&facts), Plan::Begin { drop_slot: false });
}

#[test]
fn an_unfinished_snapshot_resumes() {
    assert_eq!(planned(&at(Phase::Snapshot)), Plan::Resume);
}

#[test]
fn a_finished_snapshot_goes_on_with_the_stream() {
    assert_eq!(planned(&at(Phase::Stream)), Plan::Tail);
}

#[test]
fn a_slot_that_lags_behind_what_is_stored_is_streamed_again() {
    let mut facts = at(Phase::Stream);
    slot_of(&mut facts).confirmed_flush = Some(CONSISTENT_POINT);
    assert_eq!(planned(&facts), Plan::Tail);
}

#[test]
fn a_rewrite_or_other_columns_after_the_snapshot_are_the_streams_matter() {
    let mut facts = at(Phase::Stream);
    facts.table.storage = "rewritten".to_owned();
    facts.fingerprint = "other columns".to_owned();
    assert_eq!(planned(&facts), Plan::Tail);
}

#[test]
fn a_table_rewritten_during_its_snapshot_begins_anew_with_another_slot() {
    let mut facts = at(Phase::Snapshot);
    facts.table.storage = "rewritten".to_owned();
    assert_eq!(planned(&facts), Plan::Begin { drop_slot: true });
}

#[test]
fn a_table_of_other_columns_during_its_snapshot_begins_anew_with_another_slot() {
    let mut facts = at(Phase::Snapshot);
    facts.fingerprint = "other columns".to_owned();
    assert_eq!(planned(&facts), Plan::Begin { drop_slot: true });
}

#[test]
fn rows_that_came_or_went_unseen_are_read_anew_with_another_slot() {
    for phase in [Phase::Snapshot, Phase::Stream] {
        let mut facts = at(phase);
        facts.unseen = Some("partition p was detached or dropped".to_owned());
        assert_eq!(planned(&facts), Plan::Begin { drop_slot: true });
        slot_of(&mut facts).confirmed_flush = Some(Lsn(ACKNOWLEDGED.0 + 1));
        assert!(matches!(stopped(&facts), Stop::SlotAhead { .. }));
    }
}

#[test]
fn a_run_that_ended_before_its_slot_begins_anew() {
    let mut facts = at(Phase::Preparing);
    facts.slot = None;
    assert_eq!(planned(&facts), Plan::Begin { drop_slot: false });
}

#[test]
fn a_run_that_ended_between_its_slot_and_its_snapshot_drops_that_slot() {
    assert_eq!(
        planned(&at(Phase::Preparing)),
        Plan::Begin { drop_slot: true }
    );
}

#[test]
fn a_slot_is_never_dropped_when_another_plugin_or_database_uses_it() {
    for phase in [Phase::Preparing, Phase::Snapshot, Phase::Stream] {
        let mut facts = at(phase);
        slot_of(&mut facts).plugin = Some("wal2json".to_owned());
        foreign_slot_because(&facts, "it is not a logical slot of pgoutput");
        slot_of(&mut facts).plugin = None;
        foreign_slot_because(&facts, "it is not a logical slot of pgoutput");

        let mut facts = at(phase);
        slot_of(&mut facts).database = Some("other".to_owned());
        foreign_slot_because(&facts, "it belongs to another database");
    }
}

#[test]
fn a_slot_that_no_run_knows_is_left_alone() {
    let mut facts = at(Phase::Stream);
    facts.run = None;
    foreign_slot_because(&facts, "no run into this index knows it");
}

#[test]
fn a_slot_that_the_run_did_not_make_is_neither_streamed_nor_dropped() {
    for phase in [Phase::Preparing, Phase::Snapshot, Phase::Stream] {
        let mut facts = at(phase);
        "of_somebody_else".clone_into(&mut facts.names.slot);
        foreign_slot_because(&facts, "the run into this index has another one");
    }
}

#[test]
fn a_server_whose_wal_ends_before_what_it_has_sent_was_set_back() {
    for phase in [Phase::Snapshot, Phase::Stream] {
        let mut facts = at(phase);
        facts.server.wal_flush = Lsn(ACKNOWLEDGED.0 - 1);
        slot_of(&mut facts).confirmed_flush = Some(CONSISTENT_POINT);
        let stop = stopped(&facts);
        assert!(matches!(stop, Stop::OtherDatabase { .. }), "{stop}");
        assert_eq!(stop.lost_changes(), None, "{stop}");
        facts.server.wal_flush = ACKNOWLEDGED;
        plan(&facts).unwrap();
    }
}

#[test]
fn a_slot_that_is_gone_is_a_stop_and_not_a_new_slot() {
    for phase in [Phase::Snapshot, Phase::Stream] {
        let mut facts = at(phase);
        facts.slot = None;
        let stop = stopped(&facts);
        assert!(
            matches!(&stop, Stop::SlotLost { state, acknowledged: ACKNOWLEDGED, .. } if state == "gone"),
            "{stop}"
        );
    }
}

#[test]
fn a_slot_whose_wal_is_gone_is_a_stop_that_names_the_setting() {
    let mut facts = at(Phase::Stream);
    slot_of(&mut facts).wal_status = Some("lost".to_owned());
    let stop = stopped(&facts);
    assert!(
        matches!(&stop, Stop::SlotLost { state, .. } if state.contains("max_slot_wal_keep_size")),
        "{stop}"
    );
}

#[test]
fn a_lost_slot_is_healed_behind_a_complete_snapshot_where_that_is_wanted() {
    let lost = |phase, gone| {
        let mut facts = at(phase);
        facts.lost_slot = LostSlot::Heal;
        if gone {
            facts.slot = None;
        } else {
            slot_of(&mut facts).wal_status = Some("lost".to_owned());
        }
        facts
    };
    for gone in [false, true] {
        for phase in [Phase::Stream, Phase::Heal] {
            let mut facts = lost(phase, gone);
            assert_eq!(planned(&facts), Plan::Heal { slot_made: false });
            facts.index.as_mut().unwrap().uuid = "another".to_owned();
            assert!(matches!(stopped(&facts), Stop::IndexReplaced { .. }));
            facts = lost(phase, gone);
            facts.publication = None;
            assert!(matches!(stopped(&facts), Stop::PublicationLost { .. }));
            facts = lost(phase, gone);
            facts.server.timeline += 1;
            assert!(matches!(stopped(&facts), Stop::OtherDatabase { .. }));
        }
        let begun = Plan::Begin { drop_slot: !gone };
        assert_eq!(planned(&lost(Phase::Snapshot, gone)), begun);
    }
}

#[test]
fn a_healing_that_was_broken_off_is_begun_again_with_its_slot() {
    assert_eq!(planned(&at(Phase::Heal)), Plan::Heal { slot_made: true });
}

#[test]
fn a_slot_whose_wal_is_in_danger_is_still_used() {
    for status in ["reserved", "extended", "unreserved"] {
        let mut facts = at(Phase::Stream);
        slot_of(&mut facts).wal_status = Some(status.to_owned());
        assert_eq!(planned(&facts), Plan::Tail);
    }
}

#[test]
fn a_slot_confirmed_past_what_is_stored_is_a_stop() {
    for phase in [Phase::Snapshot, Phase::Stream] {
        let mut facts = at(phase);
        let confirmed = Lsn(ACKNOWLEDGED.0 + 1);
        slot_of(&mut facts).confirmed_flush = Some(confirmed);
        let stop = stopped(&facts);
        assert!(
            matches!(&stop, Stop::SlotAhead { confirmed: found, acknowledged: ACKNOWLEDGED, .. } if *found == confirmed),
            "{stop}"
        );
    }
}

#[test]
fn before_anything_is_acknowledged_the_position_is_the_consistent_point() {
    let mut facts = at(Phase::Snapshot);
    run_of(&mut facts).acknowledged_lsn = None;
    slot_of(&mut facts).confirmed_flush = Some(CONSISTENT_POINT);
    assert_eq!(planned(&facts), Plan::Resume);
    slot_of(&mut facts).confirmed_flush = Some(ACKNOWLEDGED);
    let stop = stopped(&facts);
    assert!(
        matches!(
            &stop,
            Stop::SlotAhead {
                acknowledged: CONSISTENT_POINT,
                ..
            }
        ),
        "{stop}"
    );
}

#[test]
fn an_index_that_is_gone_or_made_anew_is_a_stop() {
    for phase in [Phase::Snapshot, Phase::Stream] {
        let mut facts = at(phase);
        facts.index = None;
        assert_eq!(
            stopped(&facts).to_string(),
            "index \"integrated_records_v1\" is gone, and the stored position belongs to the one that was: it was deleted, restored or replaced. If the alias is still on it: `sync-es rebuild`, then start again; otherwise `sync-es drop-slot`, then start with the next ELASTICSEARCH_INDEX_NAME"
        );
        facts.index = Some(index("another", Some(meta())));
        let stop = stopped(&facts);
        assert!(
            matches!(&stop, Stop::IndexReplaced { state, .. } if state == "another one of the same name (UUID another)"),
            "{stop}"
        );
    }
}

#[test]
fn an_index_of_somebody_else_or_of_something_else_is_never_written() {
    type OtherMeta = (&'static str, fn(&mut Meta));
    let cases: [OtherMeta; 3] = [
        (
            "was made from table public.integrated_records with oid 17000, not 16401",
            |meta| meta.relation.oid = 17_000,
        ),
        ("was made with key column \"id\", not \"hk\"", |meta| {
            "id".clone_into(&mut meta.key_column);
        }),
        ("was made with version scheme \"0\", not", |meta| {
            "0".clone_into(&mut meta.version_scheme);
        }),
    ];
    for base in [new as fn() -> Facts, || at(Phase::Stream), one_shot] {
        let mut facts = base();
        facts.index = Some(index(UUID, None));
        foreign_index_because(&facts, "was not made by sync-es");
        for (why, change) in cases {
            let mut meta = meta();
            change(&mut meta);
            facts.index = Some(index(UUID, Some(meta)));
            foreign_index_because(&facts, why);
        }
    }
}

#[test]
fn a_healing_without_its_slot_makes_that_again_and_is_no_snapshot() {
    for left_over in [false, true] {
        let mut facts = at(Phase::Heal);
        facts.run.as_mut().unwrap().barrier_xmax = None;
        facts.slot = facts.slot.filter(|_| left_over);
        facts.lost_slot = LostSlot::Heal;
        assert_eq!(planned(&facts), Plan::Heal { slot_made: false });
        for other in [LostSlot::Stop, LostSlot::Rebuild] {
            facts.lost_slot = other;
            let stop = stopped(&facts);
            assert!(matches!(stop, Stop::SlotLost { .. }), "{stop}");
            assert!(stop.lost_changes().is_some(), "{stop}");
        }
    }
}

#[test]
fn an_index_that_was_not_told_its_consistent_point_has_that_of_the_run() {
    let mut facts = at(Phase::Stream);
    let meta = facts.index.as_mut().unwrap().meta.as_mut().unwrap();
    meta.consistent_point = None;
    facts.server.timeline += 1;
    assert!(stopped(&facts).lost_changes().is_some());
    facts.run = None;
    assert_eq!(stopped(&facts).lost_changes(), None);
}

#[test]
fn positions_of_another_cluster_or_timeline_say_nothing() {
    type Change = fn(&mut Server);
    // Each with whether a standby was promoted.
    let changes: [(bool, Change); 3] = [
        (false, |server| {
            "42".clone_into(&mut server.system_identifier);
            server.timeline += 1;
        }),
        (false, |server| server.timeline -= 1),
        (true, |server| server.timeline += 1),
    ];
    for (promoted, change) in changes {
        for base in [
            || at(Phase::Stream),
            || at(Phase::Snapshot),
            || one_shot_at(Phase::Snapshot),
        ] {
            let mut facts: Facts = base();
            change(&mut facts.server);
            let stop = stopped(&facts);
            assert!(matches!(stop, Stop::OtherDatabase { .. }), "{stop}");
            assert_eq!(stop.lost_changes().is_some(), promoted, "{stop}");
        }
    }
}

#[test]
fn after_a_failover_it_is_still_looked_whether_the_index_is_of_this_table() {
    let mut facts = at(Phase::Stream);
    facts.server.timeline += 1;
    facts.table.oid += 1;
    foreign_index_because(&facts, "was made from table");
}

#[test]
fn a_backup_from_before_the_index_is_no_failover() {
    let mut facts = at(Phase::Stream);
    facts.server.timeline += 1;
    facts.server.wal_flush = Lsn(CONSISTENT_POINT.0 - 1);
    let stop = stopped(&facts);
    assert!(matches!(stop, Stop::OtherDatabase { .. }), "{stop}");
    assert_eq!(stop.lost_changes(), None, "{stop}");
}

#[test]
fn the_run_is_compared_with_the_cluster_even_when_the_index_is_gone() {
    let mut facts = at(Phase::Stream);
    facts.index = None;
    facts.server.timeline = 2;
    let told = stopped(&facts).to_string();
    assert!(
        told.starts_with("the index was made from cluster 7301 on timeline 1 up to 0/200, but PostgreSQL is cluster 7301 on timeline 2, whose WAL ends at 0/1000: "),
        "{told}"
    );
}

#[test]
fn a_one_shot_run_resumes_its_unfinished_snapshot() {
    assert_eq!(planned(&one_shot_at(Phase::Snapshot)), Plan::Resume);
}

#[test]
fn a_one_shot_run_after_a_finished_one_reads_the_table_again() {
    for phase in [Phase::Sweep, Phase::Done] {
        assert_eq!(
            planned(&one_shot_at(phase)),
            Plan::Begin { drop_slot: false }
        );
    }
    assert_eq!(planned(&one_shot()), Plan::Begin { drop_slot: false });
}

#[test]
fn a_one_shot_run_begins_anew_when_table_or_index_are_not_what_they_were() {
    let changes: [fn(&mut Facts); 4] = [
        |facts| "rewritten".clone_into(&mut facts.table.storage),
        |facts| "other columns".clone_into(&mut facts.fingerprint),
        |facts| facts.index = None,
        |facts| facts.index = Some(index("another", Some(meta()))),
    ];
    for change in changes {
        let mut facts = one_shot_at(Phase::Snapshot);
        change(&mut facts);
        assert_eq!(planned(&facts), Plan::Begin { drop_slot: false });
    }
}

#[test]
fn a_one_shot_run_that_was_building_the_vector_index_goes_on_with_that_alone() {
    let building = || {
        let mut facts = one_shot_at(Phase::Sweep);
        if let Some(index) = &mut facts.index {
            index.deferred.insert("embedding".to_owned(), json!({}));
        }
        facts
    };
    assert_eq!(planned(&building()), Plan::Tail);
    let changes: [fn(&mut Facts); 2] = [
        |facts| "rewritten".clone_into(&mut facts.table.storage),
        |facts| facts.run = None,
    ];
    for change in changes {
        let mut facts = building();
        change(&mut facts);
        assert_eq!(planned(&facts), Plan::Begin { drop_slot: false });
    }
}

#[track_caller]
fn planned(facts: &Facts) -> Plan {
    plan(facts).unwrap()
}

#[track_caller]
fn stopped(facts: &Facts) -> Stop {
    plan(facts).unwrap_err()
}

#[track_caller]
fn foreign_slot_because(facts: &Facts, wanted: &str) {
    let stop = stopped(facts);
    assert!(
        matches!(&stop, Stop::ForeignSlot { why, .. } if why == wanted),
        "{stop}"
    );
}

#[track_caller]
fn foreign_index_because(facts: &Facts, wanted: &str) {
    let stop = stopped(facts);
    assert!(
        matches!(&stop, Stop::ForeignIndex { why, .. } if why.starts_with(wanted)),
        "{stop}"
    );
}

/// A healthy table, and nothing made of it yet.
pub(in crate::pipeline) fn new() -> Facts {
    let text = |name: &str, not_null| TableColumn {
        name: name.to_owned(),
        type_oid: 25,
        type_name: "text".to_owned(),
        not_null,
    };
    Facts {
        lost_slot: LostSlot::Stop,
        fed: None,
        mode: Mode::Continuous,
        names: Names {
            key: "hk".to_owned(),
            publication: "sync_es_integrated_records".to_owned(),
            slot: "sync_es_integrated_records".to_owned(),
            index: INDEX.to_owned(),
            alias: "integrated_records".to_owned(),
        },
        database: "records".to_owned(),
        server: Server {
            version: 150_018,
            role: "sync_es".to_owned(),
            system_identifier: "7301".to_owned(),
            timeline: 1,
            wal_level: "logical".to_owned(),
            in_recovery: false,
            may_replicate: true,
            wal_flush: Lsn(0x1000),
            slots: Used { count: 1, max: 10 },
            senders: Used { count: 1, max: 10 },
        },
        table: Table {
            oid: 16_401,
            schema: "public".to_owned(),
            name: "integrated_records".to_owned(),
            partitioned: false,
            columns: vec![text("hk", true), text("name", false)],
            generated: Vec::new(),
            out_of_line: false,
            is_table: true,
            may_use_schema: true,
            may_select: true,
            row_security: false,
            may_publish: true,
            estimated_rows: None,
            storage: "file 1".to_owned(),
        },
        fingerprint: "hk text, name text".to_owned(),
        key: KeyFacts {
            unique_index: Some("integrated_records_pkey".to_owned()),
            unidentified: Vec::new(),
            identity_is_full: false,
        },
        key_type: Some(key_type("text", Scalar::Text)),
        publication: None,
        coverage: Coverage::default(),
        unseen: None,
        slot: None,
        index: None,
        run: None,
    }
}

pub(in crate::pipeline) fn key_type(name: &str, scalar: Scalar) -> Arc<Type> {
    Arc::new(Type {
        oid: 1,
        name: name.to_owned(),
        kind: TypeKind::Scalar(scalar),
    })
}

/// As a run that streams leaves it behind in `phase`.
pub(in crate::pipeline) fn at(phase: Phase) -> Facts {
    let mut facts = new();
    facts.publication = Some(Publication {
        all_operations: true,
        via_root: true,
        has_table: true,
        table: Some(PublishedTable {
            columns: None,
            row_filter: None,
        }),
    });
    facts.slot = Some(Slot {
        plugin: Some("pgoutput".to_owned()),
        database: Some("records".to_owned()),
        active_pid: None,
        confirmed_flush: Some(ACKNOWLEDGED),
        wal_status: Some("reserved".to_owned()),
    });
    facts.index = Some(index(UUID, Some(meta())));
    facts.run = Some(run(&facts, phase));
    facts
}

/// A one-shot run, and nothing made yet.
pub(in crate::pipeline) fn one_shot() -> Facts {
    Facts {
        mode: Mode::OneShot,
        ..new()
    }
}

/// As a one-shot run leaves it behind in `phase`.
fn one_shot_at(phase: Phase) -> Facts {
    let mut facts = one_shot();
    facts.index = Some(index(UUID, Some(meta())));
    let run = run(&facts, phase);
    facts.run = Some(Run {
        slot: None,
        consistent_point: None,
        acknowledged_lsn: None,
        ..run
    });
    facts
}

pub(in crate::pipeline) fn slot_of(facts: &mut Facts) -> &mut Slot {
    facts.slot.as_mut().unwrap()
}

fn run_of(facts: &mut Facts) -> &mut Run {
    facts.run.as_mut().unwrap()
}

pub(in crate::pipeline) fn publication_of(facts: &mut Facts) -> &mut Publication {
    facts.publication.as_mut().unwrap()
}

/// An index as Elasticsearch shows it.
pub(in crate::pipeline) fn index(uuid: &str, meta: Option<Meta>) -> Look {
    let meta = meta.map_or(json!({}), |meta| json!({ "sync_es": meta }));
    let answer = json!({ INDEX: {
        "mappings": { "_meta": meta },
        "settings": { "index.uuid": uuid },
    }});
    let answer = Response {
        status: 200,
        retry_after: None,
        body: answer.to_string().into(),
    };
    Look::read(&answer, INDEX).unwrap()
}

pub(in crate::pipeline) fn meta() -> Meta {
    let facts = new();
    Meta {
        system_identifier: facts.server.system_identifier,
        timeline: facts.server.timeline,
        slot: Some(facts.names.slot),
        consistent_point: Some(CONSISTENT_POINT),
        relation: RelationName {
            schema: facts.table.schema,
            name: facts.table.name,
            oid: facts.table.oid,
        },
        relation_fingerprint: facts.fingerprint,
        key_column: facts.names.key,
        version_scheme: Windows::SCHEME.to_owned(),
        program_version: "0.1.0".to_owned(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn run(facts: &Facts, phase: Phase) -> Run {
    Run {
        number: 1,
        phase,
        input_postgres_table: facts.table.quoted(),
        output_es_index: INDEX.to_owned(),
        input_db_backend_config: Map::new(),
        output_db_backend_config: Map::new(),
        n_input_records: 500,
        n_output_records: 500,
        n_dead_letters: 0,
        last_synced_item: Some("k500".to_owned()),
        sync_finished: phase == Phase::Stream || phase == Phase::Done,
        slot: Some(facts.names.slot.clone()),
        consistent_point: Some(CONSISTENT_POINT),
        snapshot_point: Some(CONSISTENT_POINT),
        barrier_xmax: Some(700),
        acknowledged_lsn: Some(ACKNOWLEDGED),
        read_ahead_to: Some(CONSISTENT_POINT),
        system_identifier: facts.server.system_identifier.clone(),
        timeline: facts.server.timeline,
        index_uuid: UUID.to_owned(),
        index_was_new: true,
        relation_fingerprint: facts.fingerprint.clone(),
        storage: facts.table.storage.clone(),
        coverage: None,
        started_at: jiff::Timestamp::UNIX_EPOCH,
        updated_at: jiff::Timestamp::UNIX_EPOCH,
        finished_at: None,
        error: None,
        program_version: "0.1.0".to_owned(),
        host: "h".to_owned(),
    }
}
