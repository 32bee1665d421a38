//! Each thing that must be so, made otherwise by itself: that it is found, alone, with what mends it.

use serde_json::json;

use super::*;
use crate::{
    elasticsearch::{
        AutoCreation, Disk, Disks, Distribution, Phase, Refused, Response, Scope, Server,
        Watermark, privileges::Privileges,
    },
    pipeline::plan::LostSlot,
    pipeline::plan::tests::{at, key_type, new, one_shot, publication_of, slot_of},
    postgres::{
        catalog::{PublishedTable, Unidentified, Used},
        retention::Kept,
    },
    stop::Stop,
    value::Scalar,
};

const TABLE: &str = r#""public"."integrated_records""#;
const PUBLICATION: &str = r#""sync_es_integrated_records""#;

fn of_facts(facts: &Facts) -> Findings {
    findings(&Survey {
        facts: Some(facts),
        ..Survey::default()
    })
}

/// Everything but what is well: the words, the verdict and the remedy.
fn told(findings: &Findings) -> Vec<(&'static str, Verdict, String)> {
    let noteworthy = findings
        .0
        .iter()
        .filter(|finding| finding.verdict != Verdict::Ok);
    noteworthy
        .map(|finding| {
            let mend = finding.mend.clone().unwrap_or_default();
            (finding.what, finding.verdict, mend)
        })
        .collect()
}

#[track_caller]
fn only(findings: &Findings, what: &'static str, verdict: Verdict, mend: &str) {
    assert_eq!(told(findings), [(what, verdict, mend.to_owned())]);
}

#[test]
fn nothing_has_to_be_mended_for_a_healthy_table() {
    for facts in [new(), at(Phase::Stream), one_shot()] {
        let findings = of_facts(&facts);
        assert_eq!(told(&findings), []);
        assert_eq!((findings.ready(), findings.exit_code()), (true, 0));
        assert!(findings.into_stop().is_none());
    }
}

/// A change of the healthy facts, what is found then, and what mends it.
type Case = (fn(&mut Facts), &'static str, &'static str);

#[track_caller]
fn fails(mut facts: Facts, (change, what, mend): &Case) {
    change(&mut facts);
    let mend = mend
        .replace("{TABLE}", TABLE)
        .replace("{PUBLICATION}", PUBLICATION);
    only(&of_facts(&facts), what, Verdict::Failed, &mend);
}

#[test]
fn every_run_needs_a_table_that_may_be_read_with_a_usable_key() {
    let cases: [Case; 9] = [
        (
            |facts| facts.server.version = 130_014,
            "version",
            "upgrade PostgreSQL to 14 or newer",
        ),
        (
            |facts| facts.table.is_table = false,
            "table",
            "POSTGRES_TABLE=…  # as schema.table",
        ),
        (
            |facts| facts.table.may_use_schema = false,
            "USAGE",
            r#"GRANT USAGE ON SCHEMA "public" TO "sync_es""#,
        ),
        (
            |facts| facts.table.may_select = false,
            "SELECT",
            r#"GRANT SELECT ON {TABLE} TO "sync_es";  -- as its owner"#,
        ),
        (
            |facts| facts.table.row_security = true,
            "row security",
            r#"ALTER ROLE "sync_es" BYPASSRLS;  -- as a superuser"#,
        ),
        (
            |facts| "id".clone_into(&mut facts.names.key),
            "key column",
            "POSTGRES_KEY_COLUMN=…  # the column's name",
        ),
        (
            |facts| facts.table.columns[0].not_null = false,
            "key column",
            r#"ALTER TABLE {TABLE} ALTER COLUMN "hk" SET NOT NULL"#,
        ),
        (
            |facts| facts.key_type = Some(key_type("double precision", Scalar::Float8)),
            "key type",
            "POSTGRES_KEY_COLUMN=…  # a column of whole numbers, numeric, text, uuid, dates or times that is NOT NULL and unique; or give this one such a type",
        ),
        (
            |facts| facts.key.unique_index = None,
            "key index",
            r#"ALTER TABLE {TABLE} ADD UNIQUE ("hk")"#,
        ),
    ];
    for case in cases {
        fails(new(), &case);
        fails(one_shot(), &case);
    }
}

#[test]
fn a_run_that_streams_needs_logical_wal_and_a_key_in_every_change() {
    let cases: [Case; 5] = [
        (
            |facts| facts.server.in_recovery = true,
            "server",
            "target_session_attrs=read-write  # in POSTGRES_URL, beside the address of the primary",
        ),
        (
            |facts| "replica".clone_into(&mut facts.server.wal_level),
            "wal_level",
            "ALTER SYSTEM SET wal_level = 'logical';  -- and restart PostgreSQL; or run with --snapshot-only",
        ),
        (
            |facts| facts.server.may_replicate = false,
            "REPLICATION",
            r#"ALTER ROLE "sync_es" REPLICATION;  -- as a superuser"#,
        ),
        (
            |facts| facts.key.unidentified = unidentified(&[("public.p1", Some("p1_hk_key"))]),
            "replica identity",
            r#"ALTER TABLE public.p1 REPLICA IDENTITY USING INDEX "p1_hk_key""#,
        ),
        (
            |facts| {
                facts.key.unidentified = unidentified(&[("public.p1", Some("i")), ("p.p2", None)]);
            },
            "replica identity",
            r#"ALTER TABLE public.p1 REPLICA IDENTITY USING INDEX "i"; ALTER TABLE p.p2 REPLICA IDENTITY FULL"#,
        ),
    ];
    for case in cases {
        fails(new(), &case);
        let mut facts = one_shot();
        case.0(&mut facts);
        assert_eq!(
            told(&of_facts(&facts)),
            [],
            "a one-shot run needs none of it"
        );
    }
}

#[test]
fn rows_are_readable_or_not_whatever_the_stream_needs() {
    let mut facts = new();
    facts.server.may_replicate = false;
    assert!(is_readable(&facts));
    facts.table.may_select = false;
    assert!(!is_readable(&facts));
}

fn unidentified(leaves: &[(&str, Option<&str>)]) -> Vec<Unidentified> {
    let leaves = leaves.iter().map(|(table, index)| Unidentified {
        table: (*table).to_owned(),
        index: index.map(str::to_owned),
    });
    leaves.collect()
}

#[test]
fn a_slot_that_is_to_be_made_needs_room() {
    const FULL: Used = Used { count: 10, max: 10 };
    let cases: [Case; 2] = [
        (
            |facts| facts.server.slots = FULL,
            "replication slots",
            "ALTER SYSTEM SET max_replication_slots = 20;  -- and restart PostgreSQL; or SELECT pg_drop_replication_slot('…') for one of pg_replication_slots that nobody needs",
        ),
        (
            |facts| facts.server.senders = FULL,
            "WAL senders",
            "ALTER SYSTEM SET max_wal_senders = 20;  -- and restart PostgreSQL; or end one that pg_stat_replication shows and nobody needs",
        ),
    ];
    for case in cases {
        fails(new(), &case);
        let mut facts = at(Phase::Stream);
        case.0(&mut facts);
        assert_eq!(told(&of_facts(&facts)), [], "the slot is there");
    }
}

#[test]
fn a_missing_publication_is_told_with_its_statement_to_a_role_that_may_not_create_it() {
    fails(
        new(),
        &(
            |facts| facts.table.may_publish = false,
            "publication",
            "CREATE PUBLICATION {PUBLICATION} FOR TABLE {TABLE} WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);  -- as the owner of the table",
        ),
    );
}

#[test]
fn a_publication_that_exists_must_bring_every_change_of_the_table_with_its_key() {
    let cases: [Case; 4] = [
        (
            |facts| {
                publication_of(facts).table = None;
                publication_of(facts).has_table = false;
            },
            "publication",
            "ALTER PUBLICATION {PUBLICATION} ADD TABLE {TABLE}",
        ),
        (
            |facts| {
                facts.table.partitioned = true;
                publication_of(facts).table = None;
                publication_of(facts).via_root = false;
            },
            "publication",
            "ALTER PUBLICATION {PUBLICATION} SET (publish_via_partition_root = true)",
        ),
        (
            |facts| publication_of(facts).all_operations = false,
            "published",
            "ALTER PUBLICATION {PUBLICATION} SET (publish = 'insert, update, delete, truncate')",
        ),
        (
            |facts| {
                publication_of(facts).table = Some(PublishedTable {
                    columns: Some(vec!["name".to_owned()]),
                    row_filter: Some("(name = 'x')".to_owned()),
                });
            },
            "published key",
            r#"BEGIN; ALTER PUBLICATION {PUBLICATION} DROP TABLE {TABLE}; ALTER PUBLICATION {PUBLICATION} ADD TABLE {TABLE} ("name", "hk") WHERE (name = 'x'); COMMIT"#,
        ),
    ];
    for case in cases {
        fails(at(Phase::Stream), &case);
    }
}

#[test]
fn costs_are_told_and_stop_nobody() {
    let mut facts = new();
    facts.table.generated = vec!["total".to_owned()];
    let mend = format!(
        r#"ALTER TABLE {TABLE} ALTER COLUMN "total" DROP EXPRESSION;  -- makes it an ordinary column, for a trigger to fill; one that is STORED"#
    );
    only(&of_facts(&facts), "generated columns", Verdict::Note, &mend);
    let mut facts = new();
    facts.table.out_of_line = true;
    let mend = format!(
        "ALTER TABLE {TABLE} REPLICA IDENTITY FULL;  -- at the cost of more WAL: every update and delete then has the whole old row"
    );
    only(
        &of_facts(&facts),
        "out-of-line values",
        Verdict::Note,
        &mend,
    );
    facts.key.identity_is_full = true;
    assert_eq!(told(&of_facts(&facts)), []);
    assert!(of_facts(&facts).ready());
}

fn of_retention(facts: &Facts, retention: &Retention) -> Findings {
    findings(&Survey {
        facts: Some(facts),
        retention: Some(retention),
        ..Survey::default()
    })
}

fn retention() -> Retention {
    Retention {
        keep_bytes_max: Some(50 << 30),
        idle_timeout: None,
        kept: None,
    }
}

#[test]
fn wal_that_is_kept_too_short_or_for_ever_is_warned_of() {
    let mend = "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();  -- or what your disk can spare";
    for limit in [None, Some(64 << 20)] {
        let retention = Retention {
            keep_bytes_max: limit,
            ..retention()
        };
        let found = of_retention(&new(), &retention);
        only(&found, "max_slot_wal_keep_size", Verdict::Warning, mend);
        assert_eq!(told(&of_retention(&one_shot(), &retention)), []);
    }
    let retention = Retention {
        idle_timeout: Some("1d".to_owned()),
        ..retention()
    };
    let mend = "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf()";
    let found = of_retention(&new(), &retention);
    only(
        &found,
        "idle_replication_slot_timeout",
        Verdict::Warning,
        mend,
    );
}

#[test]
fn a_slot_that_loses_its_wal_or_its_reader_is_told() {
    for (status, pid, verdict) in [
        ("reserved", Some(7), None),
        ("reserved", None, Some(Verdict::Note)),
        ("extended", Some(7), Some(Verdict::Note)),
        ("unreserved", Some(7), Some(Verdict::Warning)),
    ] {
        let mut facts = at(Phase::Stream);
        slot_of(&mut facts).wal_status = Some(status.to_owned());
        slot_of(&mut facts).active_pid = pid;
        let retention = Retention {
            kept: Some(Kept {
                bytes: Some(3 << 20),
                safe_bytes: Some(2048),
                invalidation: None,
            }),
            ..retention()
        };
        let found = of_retention(&facts, &retention);
        let expected: Vec<_> = verdict
            .map(|verdict| ("slot", verdict))
            .into_iter()
            .collect();
        let told = told(&found);
        let told: Vec<_> = told
            .iter()
            .map(|(what, verdict, _)| (*what, *verdict))
            .collect();
        assert_eq!(told, expected, "{status}");
        let slot = found.0.iter().find(|finding| finding.what == "slot");
        let slot = &slot.unwrap().found;
        assert!(
            slot.ends_with("keeps 3 MB of WAL, 2 kB more are safe"),
            "{slot}"
        );
    }
}

fn cluster() -> Cluster {
    Cluster {
        server: Server {
            version: (9, 5, 3),
            distribution: Distribution::Elasticsearch,
            cluster_name: "c".to_owned(),
            cluster_uuid: "u".to_owned(),
        },
        alias: "records".to_owned(),
        alias_is_index: false,
        index: "records_v1".to_owned(),
        privileges: Ok(Privileges::Missing(Vec::new())),
        auto_creation: None,
        names: ["records", "records_v1", "records-sync-metadata"]
            .map(str::to_owned)
            .into(),
        disks: Ok(Disks {
            nodes: Vec::new(),
            enforced: true,
            watermarks: watermarks(),
        }),
    }
}

fn watermarks() -> [Watermark; 3] {
    let watermark = |name, setting| Watermark::parse(name, setting, None).unwrap();
    [
        watermark("low", "50%"),
        watermark("high", "70%"),
        watermark("flood_stage", "90%"),
    ]
}

fn of_cluster(change: impl FnOnce(&mut Cluster)) -> Findings {
    let mut cluster = cluster();
    change(&mut cluster);
    findings(&Survey {
        cluster: Some(&cluster),
        ..Survey::default()
    })
}

#[test]
fn a_cluster_must_know_us_and_have_the_names_free() {
    assert_eq!(told(&of_cluster(|_| {})), []);
    let missing = vec![
        (None, "monitor".to_owned()),
        (Some("records_v1".to_owned()), "write".to_owned()),
    ];
    let found = of_cluster(|cluster| cluster.privileges = Ok(Privileges::Missing(missing)));
    only(
        &found,
        "privileges",
        Verdict::Failed,
        r#"POST /_security/api_key {"name":"sync-es records","role_descriptors":{"sync-es":{"cluster":["monitor","manage_index_templates"],"indices":[{"names":["records","records_v*","records-sync-*"],"privileges":["manage","read","write"]}]}}}"#,
    );
    let stop = found.into_stop().unwrap().to_string();
    assert!(
        stop.contains("without monitor on the cluster, write on records_v1"),
        "{stop}"
    );
    let missing = vec![(Some("records_v1".to_owned()), "manage".to_owned())];
    let found = of_cluster(|cluster| cluster.privileges = Ok(Privileges::Missing(missing)));
    assert_eq!(
        verdict_of(&found, "privileges"),
        Verdict::Warning,
        "finer ones may do"
    );
    let found = of_cluster(|cluster| cluster.alias_is_index = true);
    let mend = "ELASTICSEARCH_INDEX_ALIAS=…  # another name; or, if nobody needs that index: DELETE /records";
    only(&found, "alias", Verdict::Failed, mend);
    let untold = of_cluster(|cluster| cluster.disks = Err("without monitor".to_owned()));
    only(&untold, "disk", Verdict::Note, "");
    let old = of_cluster(|cluster| cluster.server.version = (8, 18, 0));
    let other = of_cluster(|cluster| {
        cluster.server.distribution = Distribution::OpenSearch;
        cluster.server.version = (2, 18, 0);
    });
    for found in [old, other] {
        let mend =
            "upgrade to Elasticsearch 8.19, OpenSearch 2.19 or newer: no other has been tested";
        only(&found, "version", Verdict::Warning, mend);
    }
}

#[test]
fn where_a_template_cannot_the_cluster_must_keep_writes_from_making_indices() {
    let of = |setting: &str| {
        let told = AutoCreation::new(Scope::Persistent, setting);
        of_cluster(|cluster| cluster.auto_creation = Some(Ok(told)))
    };
    assert_eq!(told(&of("-records*,+*")), []);
    let found = of("+records_v*,-records*,+*");
    let mend = r#"PUT /_cluster/settings {"persistent":{"action.auto_create_index":"-records,-records_v*,-records-sync-*,+records_v*,-records*,+*"}}"#;
    only(&found, "automatic creation", Verdict::Failed, mend);
    let stop = found.into_stop().unwrap().to_string();
    assert!(
        stop.contains("a write makes what is missing of records_v1"),
        "{stop}"
    );
    let untold = of_cluster(|cluster| cluster.auto_creation = Some(Err("why".to_owned())));
    let mend = "grant the right to read the cluster's settings";
    only(&untold, "automatic creation", Verdict::Failed, mend);
}

#[test]
fn the_highest_watermark_that_a_disk_is_above_is_told() {
    let disks = |available: u64, enforced| Disks {
        nodes: vec![Disk {
            node: "data".to_owned(),
            total: 100,
            available,
        }],
        enforced,
        watermarks: watermarks(),
    };
    for (available, enforced, named) in [
        (60, true, None),
        (40, true, Some("low")),
        (20, true, Some("high")),
        (5, true, Some("flood_stage")),
        (5, false, None),
    ] {
        let found = of_cluster(|cluster| cluster.disks = Ok(disks(available, enforced)));
        let told = found
            .0
            .iter()
            .find(|finding| finding.what == "disk")
            .unwrap();
        match named {
            None => assert_eq!(told.verdict, Verdict::Ok),
            Some(name) => {
                assert_eq!(told.verdict, Verdict::Warning);
                assert!(
                    told.found.contains(&format!("above the {name} watermark")),
                    "{}",
                    told.found
                );
            }
        }
    }
}

fn of_index(settings: &serde_json::Value) -> Findings {
    let mut all = json!({"index.uuid": "u"});
    all.as_object_mut()
        .unwrap()
        .extend(settings.as_object().unwrap().clone());
    let body = json!({"v1": {"mappings": {}, "settings": all}}).to_string();
    let answer = Response {
        status: 200,
        retry_after: None,
        body: body.into(),
    };
    let look = Look::read(&answer, "v1").unwrap();
    findings(&Survey {
        index: Some(&look),
        ..Survey::default()
    })
}

#[test]
fn an_index_must_keep_what_it_acknowledges_as_it_was_sent() {
    assert_eq!(told(&of_index(&json!({}))), []);
    let cases = [
        (
            json!({"index.translog.durability": "async"}),
            "durability",
            r#"PUT /v1/_settings {"index.translog.durability":"request"}"#,
        ),
        (
            json!({"index.default_pipeline": "p"}),
            "default_pipeline",
            r#"PUT /v1/_settings {"index.default_pipeline":null}"#,
        ),
        (
            json!({"index.final_pipeline": "p"}),
            "final_pipeline",
            r#"PUT /v1/_settings {"index.final_pipeline":null}"#,
        ),
    ];
    for (settings, what, mend) in cases {
        let found = of_index(&settings);
        only(&found, what, Verdict::Failed, mend);
        assert_eq!(found.exit_code(), 11, "as while it runs");
        assert!(matches!(found.into_stop(), Some(Stop::Elasticsearch(_))));
    }
    let found = of_index(&json!({"index.blocks.write": "true", "index.blocks.read_only": "false"}));
    let mend = r#"PUT /v1/_settings {"index.blocks.write":null}"#;
    only(&found, "write block", Verdict::Warning, mend);
}

fn of_fit(change: impl FnOnce(&mut Fit)) -> Findings {
    let mut fit = Fit {
        table: TABLE.to_owned(),
        key: "\"hk\"".to_owned(),
        own_template: None,
        template_refused: None,
        conflict: None,
        vectors: Vec::new(),
        keys: Keys::default(),
        sample: Ok(Sample {
            tried: 3,
            refused: Vec::new(),
        }),
        stops_at_refusal: false,
        index_exists: false,
    };
    change(&mut fit);
    findings(&Survey {
        fit: Some(&fit),
        ..Survey::default()
    })
}

#[track_caller]
fn verdict_of(findings: &Findings, what: &str) -> Verdict {
    let found = findings.0.iter().find(|finding| finding.what == what);
    found.unwrap().verdict
}

#[test]
fn a_vector_of_another_length_fails_where_no_other_is_seen() {
    for (lengths, verdict) in [
        (vec![], Verdict::Ok),
        (vec![3, 3], Verdict::Ok),
        (vec![3, 5], Verdict::Warning),
        (vec![5, 5], Verdict::Failed),
    ] {
        let found = of_fit(|fit| {
            fit.vectors = vec![Vectors {
                column: "embedding".to_owned(),
                wanted: 3,
                found: lengths,
            }];
        });
        assert_eq!(verdict_of(&found, "dimensions"), verdict);
        if verdict == Verdict::Failed {
            only(&found, "dimensions", verdict, "EMBEDDING_DIMENSIONS=5");
            assert_eq!(found.exit_code(), 2, "a setting does not fit the table");
        }
    }
}

#[test]
fn template_mapping_and_keys_are_told_with_what_a_run_ends_with() {
    assert_eq!(told(&of_fit(|_| {})), []);
    let found = of_fit(|fit| fit.template_refused = Some("same priority".to_owned()));
    assert_eq!(
        (verdict_of(&found, "template"), found.exit_code()),
        (Verdict::Failed, 12)
    );
    let found = of_fit(|fit| fit.own_template = Some("it lacks a field".to_owned()));
    assert_eq!(
        (verdict_of(&found, "template"), found.exit_code()),
        (Verdict::Failed, 2)
    );
    let conflict = |fit: &mut Fit| {
        fit.index_exists = true;
        fit.conflict = Some("field \"n\" is mapped as long".to_owned());
    };
    let found = of_fit(conflict);
    assert_eq!(
        (verdict_of(&found, "mapping"), found.exit_code()),
        (Verdict::Failed, 27)
    );
    let found = of_fit(|fit| {
        conflict(fit);
        fit.template_refused = Some("same priority".to_owned());
    });
    let Some(Stop::Preconditions(listed)) = found.into_stop() else {
        panic!("what has no stop of its own is listed, with all the rest");
    };
    assert_eq!(listed.len(), 2);
    let found = of_fit(|fit| fit.keys.problem = Some("the key is empty"));
    assert_eq!(verdict_of(&found, "key length"), Verdict::Ok, "of no row");
    let found = of_fit(|fit| {
        fit.keys = Keys {
            count: 2,
            bytes_max: 600,
            problem: Some("the key is too long"),
        };
    });
    only(
        &found,
        "key length",
        Verdict::Warning,
        &format!(
            r#"SELECT "hk" FROM {TABLE} WHERE octet_length("hk"::text) NOT BETWEEN 1 AND 512;  -- give these rows other keys"#
        ),
    );
}

#[test]
fn rows_of_which_none_fits_stop_a_first_run_and_others_are_warned_of() {
    let refused = |count: usize, tried, exists| {
        of_fit(|fit| {
            fit.index_exists = exists;
            fit.sample = Ok(Sample {
                tried,
                refused: (0..count)
                    .map(|_| Refused {
                        key: "it's".to_owned(),
                        reason: "failed to parse".to_owned(),
                    })
                    .collect(),
            });
        })
    };
    let mend = format!(
        r#"SELECT * FROM {TABLE} WHERE "hk"::text = 'it''s';  -- correct the row, or the field's type (docs/document.md)"#
    );
    only(
        &refused(1, 3, false),
        "sample of rows",
        Verdict::Warning,
        &mend,
    );
    only(
        &refused(3, 3, false),
        "sample of rows",
        Verdict::Failed,
        &mend,
    );
    only(
        &refused(3, 3, true),
        "sample of rows",
        Verdict::Warning,
        &mend,
    );
    only(
        &refused(1, 1, false),
        "sample of rows",
        Verdict::Warning,
        &mend,
    );
    let untried = of_fit(|fit| fit.sample = Err("it is too much at once".to_owned()));
    only(&untried, "sample of rows", Verdict::Note, "");
}

#[test]
fn a_position_that_cannot_be_trusted_is_told_as_the_stop_that_it_is() {
    let cluster = cluster();
    let of = |facts: &Facts| {
        findings(&Survey {
            facts: Some(facts),
            cluster: Some(&cluster),
            ..Survey::default()
        })
    };
    assert_eq!(told(&of(&new())), []);
    assert_eq!(told(&of(&at(Phase::Snapshot))), []);
    let mut facts = at(Phase::Stream);
    facts.slot = None;
    let found = of(&facts);
    assert_eq!(
        (verdict_of(&found, "position"), found.exit_code()),
        (Verdict::Failed, 20)
    );
    assert!(matches!(found.into_stop(), Some(Stop::SlotLost { .. })));
    assert_eq!(told(&of_facts(&facts)), [], "not without the other end");

    facts.lost_slot = LostSlot::Rebuild;
    let found = of(&facts);
    assert_eq!((told(&found), found.exit_code()), (vec![], 0));
    facts.server.slots.count = facts.server.slots.max;
    assert_eq!(
        of(&facts).exit_code(),
        12,
        "the next generation needs a slot"
    );
    facts = at(Phase::Stream);
    facts.lost_slot = LostSlot::Rebuild;
    facts.server.timeline += 1;
    assert_eq!(of(&facts).exit_code(), 0);
    facts.lost_slot = LostSlot::Heal;
    assert_eq!(of(&facts).exit_code(), 25);
}
