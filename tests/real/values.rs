//! A row has one document, whichever way it came: the bytes of the snapshot are those of the stream.

use std::collections::BTreeMap;

use crate::support::{SyncEs, Workload, World, in_world, in_world_of};

/// A table with a column of every built-in type, and rows that go to the types' limits.
const EVERY_TYPE: &str = include_str!("every_type.sql");

/// Every document of the alias: version, and `_source` in the bytes that were sent.
async fn documents(world: &World) -> BTreeMap<String, (u64, String)> {
    let mut documents = BTreeMap::new();
    world
        .search
        .scan(world.alias(), async |page| {
            for hit in page {
                documents.insert(hit.id.clone(), (hit.version, hit.source.get().to_owned()));
            }
        })
        .await;
    documents
}

/// All rows are written anew by the stream, with the values that they have.
async fn same_bytes_after(world: &World, program: &mut SyncEs, statements: &str) {
    world.caught_up(program).await;
    let before = documents(world).await;
    assert!(!before.is_empty());
    world.execute(statements).await;
    world.caught_up(program).await;
    let after = documents(world).await;
    assert!(before.keys().eq(after.keys()), "{statements}: other keys");
    for (id, (version, source)) in &before {
        let (new_version, new_source) = &after[id];
        assert!(
            new_version > version,
            "{statements}: {id} was not written again"
        );
        assert_eq!(new_source, source, "{statements}: {id}");
    }
}

/// By update and by insert, with either replica identity.
async fn snapshot_equals_stream(world: &World, mut program: SyncEs, table: &str, key: &str) {
    let update = format!("UPDATE {table} SET {key} = {key}");
    same_bytes_after(world, &mut program, &update).await;
    let again = format!(
        "CREATE TABLE kept AS SELECT * FROM {table};
         BEGIN; DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept; COMMIT;
         DROP TABLE kept"
    );
    same_bytes_after(world, &mut program, &again).await;
    world
        .execute(&format!("ALTER TABLE {table} REPLICA IDENTITY FULL"))
        .await;
    same_bytes_after(world, &mut program, &update).await;
    assert_eq!(world.dead_letters().await, Vec::<serde_json::Value>::new());
    program.stop().await;
}

#[test]
fn a_value_of_every_type_has_the_same_bytes_from_snapshot_and_stream() {
    in_world(async |world| {
        world.execute("DROP TABLE integrated_records").await;
        world.execute(EVERY_TYPE).await;
        let table =
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid
             WHERE i.indisprimary AND c.relnamespace = 'public'::regnamespace";
        let key = "SELECT quote_ident(attname) FROM pg_attribute a JOIN pg_index i ON i.indrelid = a.attrelid AND a.attnum = i.indkey[0]
             JOIN pg_class c ON c.oid = i.indrelid WHERE i.indisprimary AND c.relnamespace = 'public'::regnamespace";
        let table: String = world.ask(table).await.unwrap();
        let key: String = world.ask(key).await.unwrap();
        let program = world
            .sync_es(&["run"])
            .env("POSTGRES_TABLE", &table)
            .env("POSTGRES_KEY_COLUMN", &key)
            .start();
        snapshot_equals_stream(world, program, &table, &key).await;
    });
}

#[test]
fn an_organization_has_the_same_bytes_from_snapshot_and_stream() {
    in_world_of(768, async |world| {
        Workload::new(world, 150).await.fill(world).await;
        snapshot_equals_stream(world, world.run(), "integrated_records", "hk").await;
    });
}

/// Values that Elasticsearch, a JSON parser or a float would refuse or change.
const HAZARDS: &str = r#"
    ALTER TABLE integrated_records ADD COLUMN exact numeric, ADD COLUMN big bigint, ADD COLUMN raw json,
        ADD COLUMN day date, ADD COLUMN at timestamptz, ADD COLUMN single real, ADD COLUMN double float8;
    INSERT INTO integrated_records (hk, exact) VALUES
        ('numeric-most-digits', (repeat('9', 3000) || '.' || repeat('7', 16383))::numeric),
        ('numeric-nan', 'NaN'), ('numeric-infinity', '-Infinity');
    INSERT INTO integrated_records (hk, big, single, double) VALUES
        ('beyond-a-double', 9007199254740993, 'NaN', 'Infinity'),
        ('smallest', -9223372036854775808, 1e-45, 5e-324);
    INSERT INTO integrated_records (hk, day, at) VALUES
        ('infinity', 'infinity', '-infinity'),
        ('before-christ', '4713-01-01 BC', '0044-03-15 12:00:00.000001+00 BC'),
        ('late', '12026-01-01', '294276-12-31 23:59:59.999999+00');
    INSERT INTO integrated_records (hk, name, description) VALUES
        ('immense-term', repeat('x', 40000), repeat('ü', 40000)),
        ('control-characters', E'\u0001\b\f\n\r\t\u001f\u007f\u2028"\\', E'\r\n{"delete":{}}\n');
    INSERT INTO integrated_records (hk, raw) VALUES
        ('json-escapes', '{"a": "\u0000\ud800\b\n\u001f", "a\u0000": "\udc00\ud83d\ude00"}'),
        ('json-twice', E'{"a": 1,\n "b": {"c": 1, "c": 2},\r\n "a": [3]}'),
        ('json-number', ('{"n": ' || repeat('9', 1200) || '}')::json), ('json-exponent', '{"m": 1e400, "d": 0.1000}'),
        ('json-deep', (repeat('{"a":', 18) || '1' || repeat('}', 18))::json);
    INSERT INTO integrated_records (hk, attributes) VALUES
        ('jsonb-number', ('{"n": ' || repeat('9', 1200) || ', "m": 1.50}')::jsonb);
    INSERT INTO integrated_records (hk, embedding) VALUES
        ('vector', '{1,2,3,4,5,6,7,8}'), ('vector-zero', '{0,0,0,0,0,0,0,-0}'),
        ('vector-null', '{1,2,NULL,4,5,6,7,8}'), ('vector-short', '{1,2,3}'), ('vector-long', '{1,2,3,4,5,6,7,8,9}'),
        ('vector-nan', '{1,2,NaN,4,5,6,7,8}'), ('vector-infinite', '{1,2,Infinity,4,5,6,7,8}'),
        ('vector-overflow', '{1e30,0,0,0,0,0,0,0}'), ('vector-underflow', '{1e-30,0,0,0,0,0,0,0}'),
        ('vector-nested', '{{1,2,3,4},{5,6,7,8}}'), ('vector-empty', '{}')"#;

#[test]
fn a_value_that_is_a_hazard_is_the_same_on_every_way_and_costs_no_document() {
    in_world(async |world| {
        world.execute(HAZARDS).await;
        let rows: i64 = world
            .ask("SELECT count(*) FROM integrated_records")
            .await
            .unwrap();
        let mut program = world.run();
        world.caught_up(&mut program).await;
        let documents = documents(world).await;
        assert_eq!(documents.len(), usize::try_from(rows).unwrap());
        let source = |id: &str| -> serde_json::Value {
            let (_, source) = &documents[id];
            serde_json::from_str(source).unwrap()
        };
        let digits = format!("{}.{}", "9".repeat(3000), "7".repeat(16383));
        assert_eq!(source("numeric-most-digits")["exact"], digits);
        assert_eq!(source("numeric-infinity")["exact"], "-Infinity");
        assert_eq!(source("beyond-a-double")["big"], 9_007_199_254_740_993_i64);
        for (id, field) in [
            ("beyond-a-double", "single"),
            ("beyond-a-double", "double"),
            ("infinity", "day"),
            ("infinity", "at"),
        ] {
            assert!(source(id).get(field).is_none(), "{id}: {field}");
        }
        assert_eq!(source("before-christ")["day"], "-4712-01-01");
        assert_eq!(
            source("before-christ")["at"],
            "-0043-03-15T12:00:00.000001Z"
        );
        assert_eq!(source("late")["at"], "9224318015999999.999");
        assert_eq!(source("immense-term")["name"], "x".repeat(40_000));
        assert_eq!(
            source("control-characters")["description"],
            "\r\n{\"delete\":{}}\n"
        );
        let escapes = "\u{fffd}\u{fffd}\u{8}\n\u{1f}";
        assert_eq!(source("json-escapes")["raw"]["a"], escapes);
        assert_eq!(
            source("json-twice")["raw"],
            serde_json::json!({ "b": { "c": 2 }, "a": [3] })
        );
        assert_eq!(source("json-number")["raw"]["n"], "9".repeat(1200));
        let (_, exponent) = &documents["json-exponent"];
        assert!(exponent.contains("\"m\":1e400,\"d\":0.1000"), "{exponent}");
        assert_eq!(source("jsonb-number")["attributes"]["n"], "9".repeat(1200));
        for (id, (_, source)) in &documents {
            assert_eq!(
                source.contains("\"embedding\":"),
                id == "vector",
                "{id}: {source:.300}"
            );
        }
        snapshot_equals_stream(world, program, "integrated_records", "hk").await;
    });
}

#[test]
fn settings_of_the_role_and_the_database_have_no_say_in_the_bytes() {
    in_world_of(16, async |world| {
        Workload::new(world, 60).await.fill(world).await;
        let one_shot = world.sync_es(&["run", "--snapshot-only"]);
        one_shot.output().await.succeeded();
        let before = documents(world).await;
        let name = &world.name;
        world
            .execute(&format!(
                "ALTER DATABASE {name} SET datestyle = 'SQL, DMY';
                 ALTER DATABASE {name} SET extra_float_digits = 0;
                 ALTER DATABASE {name} SET timezone = 'Asia/Kathmandu';
                 ALTER DATABASE {name} SET intervalstyle = 'sql_standard';
                 ALTER DATABASE {name} SET bytea_output = 'escape'"
            ))
            .await;
        world
            .execute("SELECT pg_logical_emit_message(true, 'next', 'a higher LSN')")
            .await;
        one_shot.output().await.succeeded();
        let after = documents(world).await;
        for (id, (version, source)) in &before {
            assert!(after[id].0 > *version, "{id} was not written again");
            assert_eq!(&after[id].1, source, "{id}");
        }
        let mut program = world.run();
        same_bytes_after(world, &mut program, "UPDATE integrated_records SET hk = hk").await;
        program.stop().await;
    });
}
