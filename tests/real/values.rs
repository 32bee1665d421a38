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
