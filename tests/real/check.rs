//! `sync-es check`: each thing made wrong on a real server is told, and the remedy mends it as it is
//! printed. Nothing is changed by asking.

mod rows;

use elasticsearch::http::Method;
use serde_json::{Value, json};

use crate::{
    snapshot::add_rows,
    support::{Invocation, Workload, World, in_world},
};

/// What `check --json` has told.
struct Checked {
    code: i32,
    findings: Vec<Value>,
}

impl Checked {
    async fn of(invocation: &Invocation) -> Self {
        let outcome = invocation.output().await;
        let line = outcome
            .log
            .lines()
            .find(|line| line.starts_with("{\"ready\""));
        let told: Value =
            serde_json::from_str(line.unwrap_or_else(|| panic!("{}", outcome.log))).unwrap();
        let code = outcome.code.unwrap();
        assert_eq!(told["exit_code"], code);
        assert_eq!(told["ready"], code == 0);
        let findings = told["findings"].as_array().unwrap().clone();
        Self { code, findings }
    }

    /// The one finding about `what` that has this verdict, or the first about it.
    fn find(&self, what: &str, verdict: &str) -> Option<&Value> {
        let mut about = self.findings.iter().filter(|one| one["what"] == what);
        about.find(|one| one["verdict"] == verdict)
    }

    #[track_caller]
    fn told(&self, what: &str, verdict: &str) -> &Value {
        self.find(what, verdict)
            .unwrap_or_else(|| panic!("no {what} with {verdict} in {:#?}", self.findings))
    }

    fn failed(&self) -> Vec<&str> {
        let failed = self
            .findings
            .iter()
            .filter(|one| one["verdict"] == "failed");
        failed.map(|one| one["what"].as_str().unwrap()).collect()
    }
}

fn check(world: &World) -> Invocation {
    world.sync_es(&["check", "--json"])
}

/// Does what a remedy says, as it is printed, but for its comment: statements one by one, as psql
/// sends them, or a request.
async fn carry_out(world: &World, remedy: &str) {
    let remedy = remedy.split("  # ").next().unwrap();
    let request = remedy.split_once(" /").and_then(|(method, rest)| {
        let method = match method {
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            _ => return None,
        };
        let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
        Some((method, format!("/{path}"), serde_json::from_str(body).ok()))
    });
    if let Some((method, path, body)) = request {
        world.search.must(method, &path, body).await;
        return;
    }
    for statement in remedy.split("  -- ").next().unwrap().split("; ") {
        world.execute(statement).await;
    }
}

/// Checks, finds `what` wrong, carries its remedy out, and finds it so no more.
async fn wrong_and_mended(world: &World, check: &Invocation, what: &str, verdict: &str) {
    let before = Checked::of(check).await;
    let finding = before.told(what, verdict);
    let remedy = finding["mend"].as_str().unwrap().to_owned();
    assert!(!finding["wanted"].as_str().unwrap().is_empty(), "{finding}");
    if verdict == "failed" {
        assert_ne!(before.code, 0);
    }
    carry_out(world, &remedy).await;
    let after = Checked::of(check).await;
    assert!(
        after.find(what, verdict).is_none(),
        "{remedy} did not mend {finding}"
    );
}

/// What stands in both servers, by name.
async fn everything(world: &World) -> String {
    let name = &world.name;
    let there: Option<String> = world
        .ask(
            "SELECT string_agg(name, ' ' ORDER BY name) FROM (
                SELECT pubname::text FROM pg_publication
                UNION ALL SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()
                UNION ALL SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
             ) AS there (name)",
        )
        .await;
    let mut indices = world.search.indices(&format!("{name}*")).await;
    indices.sort();
    let path = format!("/_index_template/{name}*");
    let (_, templates) = world.search.ask(Method::Get, &path, None).await;
    format!("{there:?} {indices:?} {templates}")
}

#[test]
fn a_table_that_is_ready_passes_and_nothing_is_changed_by_asking() {
    in_world(async |world| {
        add_rows(world, 30).await;
        let before = everything(world).await;
        let checked = Checked::of(&check(world)).await;
        assert_eq!((checked.code, checked.failed()), (0, vec![]));
        let sample = checked.told("sample of rows", "ok");
        assert_eq!(sample["found"], "30 tried, all fit");
        let once = Checked::of(&world.sync_es(&["check", "--json", "--snapshot-only"])).await;
        assert_eq!(once.code, 0);
        assert!(once.find("wal_level", "ok").is_none(), "it needs none");
        assert_eq!(everything(world).await, before);

        // And while it is at work, and stopped, too.
        let mut program = world.run();
        world.caught_up(&mut program).await;
        let before = everything(world).await;
        let checked = Checked::of(&check(world)).await;
        assert_eq!((checked.code, checked.failed()), (0, vec![]));
        checked.told("slot", "ok");
        let position = checked.told("position", "ok")["found"].to_string();
        assert!(position.contains("goes on with the stream"), "{position}");
        program.stop().await;
        let checked = Checked::of(&check(world)).await;
        checked.told("slot", "note");
        assert_eq!(everything(world).await, before);
    });
}

#[test]
fn a_check_beside_a_busy_service_sees_nothing_wrong() {
    in_world(async |world| {
        let workload = Workload::new(world, 200).await;
        workload.fill(world).await;
        let mut program = world.run();
        world.live(&mut program).await;
        let writers = workload.start(world).await;
        for _ in 0..8 {
            let checked = Checked::of(&check(world)).await;
            assert_eq!((checked.code, checked.failed()), (0, vec![]));
        }
        writers.stop().await;
        world.caught_up(&mut program).await;
        program.stop().await;
    });
}

#[test]
fn a_person_reads_a_line_a_finding_and_below_it_the_remedy() {
    in_world(async |world| {
        world
            .execute("ALTER TABLE integrated_records REPLICA IDENTITY NOTHING")
            .await;
        let outcome = world.sync_es(&["check"]).output().await;
        assert_eq!(outcome.code, Some(12), "{}", outcome.log);
        for line in [
            "PostgreSQL",
            "  ok       wal_level               logical",
            "  failed   replica identity        public.integrated_records does not send the key with deletes",
            r#"mend:   ALTER TABLE public.integrated_records REPLICA IDENTITY USING INDEX "integrated_records_pkey""#,
            "Both together",
            "run would end with exit code 12",
        ] {
            assert!(outcome.log.contains(line), "{line}\n{}", outcome.log);
        }
        assert!(!outcome.log.contains('\u{1b}'), "no colours off a terminal");
    });
}

#[test]
fn each_remedy_for_the_table_and_its_publication_mends_it() {
    const TABLE: &str = "integrated_records";
    const PUBLICATION: &str = "sync_es_integrated_records";
    in_world(async |world| {
        add_rows(world, 3).await;
        let cases = [
            (
                format!("ALTER TABLE {TABLE} REPLICA IDENTITY NOTHING"),
                "replica identity",
                "failed",
            ),
            (
                format!("CREATE PUBLICATION {PUBLICATION}"),
                "publication",
                "failed",
            ),
            (
                format!("ALTER PUBLICATION {PUBLICATION} SET (publish = 'insert')"),
                "published",
                "failed",
            ),
            (
                format!(
                    "CREATE TABLE another (hk text PRIMARY KEY); ALTER PUBLICATION {PUBLICATION} SET TABLE another, {TABLE} (name, city)"
                ),
                "published key",
                "failed",
            ),
            (
                format!(
                    "ALTER TABLE {TABLE} ADD letters integer GENERATED ALWAYS AS (length(hk)) STORED"
                ),
                "generated columns",
                "note",
            ),
            (
                format!(
                    "ALTER TABLE {TABLE} ALTER description SET STORAGE EXTERNAL; UPDATE {TABLE} SET description = repeat('long', 1000)"
                ),
                "out-of-line values",
                "note",
            ),
        ];
        let check = check(world);
        for (wrong, what, verdict) in cases {
            world.execute(&wrong).await;
            wrong_and_mended(world, &check, what, verdict).await;
        }
        let others: Option<i64> = world
            .ask("SELECT count(*) FROM pg_publication_tables WHERE tablename = 'another'")
            .await;
        assert_eq!(others, Some(1), "the publication keeps its other table");
        assert_eq!(Checked::of(&check).await.code, 0);
    });
}

#[test]
fn a_key_without_index_and_identity_is_mended_line_by_line() {
    in_world(async |world| {
        world
            .execute(
                "ALTER TABLE integrated_records DROP CONSTRAINT integrated_records_pkey;
                 ALTER TABLE integrated_records ALTER hk DROP NOT NULL",
            )
            .await;
        let check = check(world);
        assert_eq!(
            Checked::of(&check).await.failed(),
            ["key column", "key index"]
        );
        for what in ["key column", "key index", "replica identity"] {
            wrong_and_mended(world, &check, what, "failed").await;
        }
        let mut program = world.run();
        world.caught_up(&mut program).await;
        program.stop().await;
    });
}

#[test]
fn a_key_whose_values_have_no_text_form_is_told_before_there_is_a_row() {
    in_world(async |world| {
        world
            .execute("CREATE TABLE measured (at double precision PRIMARY KEY, name text)")
            .await;
        let of_measured = |invocation: Invocation| {
            invocation
                .env("POSTGRES_TABLE", "measured")
                .env("POSTGRES_KEY_COLUMN", "at")
                .env("SYNC_ES_PUBLICATION", "of_measured")
        };
        let check = of_measured(check(world));
        assert_eq!(Checked::of(&check).await.failed(), ["key type"]);
        let before = everything(world).await;
        let run = of_measured(world.sync_es(&["run"])).output().await;
        assert_eq!(run.code, Some(12), "{}", run.log);
        assert_eq!(everything(world).await, before);
        world
            .execute("ALTER TABLE measured ALTER at TYPE numeric")
            .await;
        assert_eq!(Checked::of(&check).await.code, 0);
    });
}

#[test]
fn each_remedy_for_a_partitioned_table_mends_it() {
    in_world(async |world| {
        world
            .execute(
                "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
                 CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
                 CREATE TABLE \"Part 2\" PARTITION OF parts FOR VALUES FROM (10) TO (20);
                 INSERT INTO parts SELECT generate_series(0, 19);
                 CREATE PUBLICATION of_parts FOR TABLE parts;
                 ALTER TABLE part_1 REPLICA IDENTITY NOTHING;
                 ALTER TABLE \"Part 2\" REPLICA IDENTITY NOTHING",
            )
            .await;
        let check = check(world)
            .env("POSTGRES_TABLE", "parts")
            .env("POSTGRES_KEY_COLUMN", "id")
            .env("SYNC_ES_PUBLICATION", "of_parts");
        for what in ["replica identity", "publication"] {
            wrong_and_mended(world, &check, what, "failed").await;
        }
        assert_eq!(Checked::of(&check).await.code, 0);
    });
}

#[test]
fn each_remedy_for_a_role_mends_it() {
    in_world(async |world| {
        add_rows(world, 3).await;
        let role = format!("role_{}", world.name);
        world
            .execute(&format!(
                "CREATE ROLE {role} LOGIN PASSWORD 'pw';
                 REVOKE USAGE ON SCHEMA public FROM PUBLIC;
                 ALTER TABLE integrated_records ENABLE ROW LEVEL SECURITY"
            ))
            .await;
        let mut url = world.postgres_url();
        url.set_username(&role).unwrap();
        url.set_password(Some("pw")).unwrap();
        let check = check(world).env("POSTGRES_URL", url);
        let all = [
            "USAGE",
            "SELECT",
            "row security",
            "REPLICATION",
            "publication",
        ];
        assert_eq!(Checked::of(&check).await.failed(), all);
        for what in all {
            wrong_and_mended(world, &check, what, "failed").await;
        }
        let checked = Checked::of(&check).await;
        world
            .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
            .await;
        assert_eq!((checked.code, checked.failed()), (0, vec![]));
    });
}

#[test]
fn a_slot_that_may_keep_wal_for_ever_is_warned_of() {
    in_world(async |world| {
        // The world takes the setting back at its end.
        world.alter_system("max_slot_wal_keep_size", "-1").await;
        wrong_and_mended(world, &check(world), "max_slot_wal_keep_size", "warning").await;
    });
}

#[test]
fn each_remedy_for_the_index_mends_it() {
    in_world(async |world| {
        add_rows(world, 3).await;
        world
            .sync_es(&["run", "--snapshot-only"])
            .output()
            .await
            .succeeded();
        let settings = format!("/{}/_settings", world.index());
        let check = check(world);
        for (setting, value, what, verdict) in [
            (
                "index.translog.durability",
                json!("async"),
                "durability",
                "failed",
            ),
            (
                "index.default_pipeline",
                json!("p"),
                "default_pipeline",
                "failed",
            ),
            (
                "index.final_pipeline",
                json!("p"),
                "final_pipeline",
                "failed",
            ),
            ("index.blocks.write", json!(true), "write block", "warning"),
        ] {
            let pipeline = json!({ "processors": [] });
            world
                .search
                .must(Method::Put, "/_ingest/pipeline/p", Some(pipeline))
                .await;
            let body = json!({ setting: value });
            world.search.must(Method::Put, &settings, Some(body)).await;
            wrong_and_mended(world, &check, what, verdict).await;
        }
        assert_eq!(Checked::of(&check).await.code, 0);
    });
}

#[test]
fn an_index_or_a_template_in_the_way_is_told() {
    in_world(async |world| {
        add_rows(world, 3).await;
        let check = check(world);
        let alias = format!("/{}", world.alias());
        world.search.must(Method::Put, &alias, None).await;
        let checked = Checked::of(&check).await;
        let mend = checked.told("alias", "failed")["mend"].to_string();
        // It can be the index that somebody serves from.
        assert!(mend.contains("ELASTICSEARCH_INDEX_ALIAS=…"), "{mend}");
        assert!(mend.contains(&format!("DELETE {alias}")), "{mend}");
        world.search.must(Method::Delete, &alias, None).await;
        assert_eq!(Checked::of(&check).await.code, 0);

        let path = format!("/_index_template/{}-other", world.name);
        // The priority that the templates of sync-es have.
        let other = json!({ "index_patterns": [format!("{}*", world.name)], "priority": 500 });
        world.search.must(Method::Put, &path, Some(other)).await;
        let checked = Checked::of(&check).await;
        world.search.must(Method::Delete, &path, None).await;
        let found = checked.told("template", "failed")["found"].to_string();
        assert!(found.contains("-other"), "it is named: {found}");
        assert_eq!(checked.code, 12);
        assert_eq!(Checked::of(&check).await.code, 0);
    });
}

#[test]
fn a_disk_above_a_watermark_is_warned_of() {
    in_world(async |world| {
        // Above this one alone no replica is made: nothing else that runs here has one. The others
        // are out of reach, however full the disk is.
        let settings = [
            ("watermark.low", json!("0.1%")),
            ("watermark.high", json!("99.8%")),
            ("watermark.flood_stage", json!("99.9%")),
            ("threshold_enabled", json!(true)),
        ];
        let disk = |(name, value)| (format!("cluster.routing.allocation.disk.{name}"), value);
        world.set_cluster(settings.map(disk)).await;
        let checked = Checked::of(&check(world)).await;
        let found = checked.told("disk", "warning")["found"].to_string();
        assert!(found.contains("above the low watermark (0.1%)"), "{found}");
        assert_eq!(checked.code, 0);
    });
}
