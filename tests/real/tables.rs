//! Other tables than `integrated_records`, and tables that change their form.

use crate::{
    snapshot::add_rows,
    support::{
        Invocation, Truth, Workload, World, assert_equal, in_world, in_world_of, wait_until,
    },
};

/// Snapshot, then the statements while the stream runs; afterwards table and index are equal.
async fn snapshot_then(world: &World, run: Invocation, statements: &str, truth: &Truth) {
    let mut program = run.start();
    world.caught_up(&mut program).await;
    assert_equal(world, truth).await;
    world.execute(statements).await;
    world.caught_up(&mut program).await;
    assert_equal(world, truth).await;
    program.stop().await;
}

#[test]
fn a_table_with_other_columns_and_a_bigint_key_needs_a_toml_file_alone() {
    in_world(async |world| {
        world
            .execute(
                "CREATE SCHEMA lab;
                 CREATE TABLE lab.readings (
                     reading_id bigint PRIMARY KEY, sensor varchar(20) NOT NULL, unit char(4),
                     value double precision, exact numeric, taken_at timestamptz, tags int[],
                     raw jsonb, active boolean, secret text);
                 INSERT INTO lab.readings
                 SELECT n, 's' || n, 'degC', n / 7.0, n * 1.10, now(), ARRAY[n, NULL, -n], '{\"a\": [1, 2.50]}', n % 2 = 0, 'not to be seen'
                   FROM generate_series(-500, 500) AS n;
                 INSERT INTO lab.readings (reading_id, sensor)
                 VALUES (9223372036854775807, 'max'), (-9223372036854775808, 'min'), (9007199254740993, 'beyond a double')",
            )
            .await;
        let file = world.file(
            "readings.toml",
            &format!(
                "postgres_table = 'lab.readings'
                 postgres_key_column = 'reading_id'
                 elasticsearch_index_name = '{}'
                 elasticsearch_index_alias = '{}'
                 slot = '{}'
                 [document.columns]
                 secret = false
                 unit = 'measure.unit'
                 value = 'measure.value'",
                world.index(),
                world.alias(),
                world.slot()
            ),
        );
        let run = [
            "ELASTICSEARCH_INDEX_NAME",
            "ELASTICSEARCH_INDEX_ALIAS",
            "SYNC_ES_SLOT",
            "EMBEDDING_DIMENSIONS",
        ]
        .iter()
        .fold(world.sync_es(&["run"]), |run, name| run.unset(name))
        .env("SYNC_ES_CONFIG", file.display());
        let truth = Truth::of(
            "lab.readings",
            "reading_id",
            &[
                ("reading_id", "to_jsonb(reading_id)"),
                ("sensor", "to_jsonb(sensor)"),
                (
                    "measure",
                    "nullif(jsonb_strip_nulls(jsonb_build_object('unit', unit, 'value', value)), '{}')",
                ),
                ("exact", "to_jsonb(exact::text)"),
                (
                    "taken_at",
                    "to_jsonb(replace(to_jsonb(taken_at) #>> '{}', '+00:00', 'Z'))",
                ),
                ("tags", "to_jsonb(tags)"),
                ("raw", "raw"),
                ("active", "to_jsonb(active)"),
            ],
        );
        let statements = "UPDATE lab.readings SET value = value * 2, unit = 'K' WHERE reading_id % 3 = 0;
             UPDATE lab.readings SET reading_id = 1000000 - reading_id WHERE reading_id BETWEEN 1 AND 20;
             DELETE FROM lab.readings WHERE reading_id < -400;
             INSERT INTO lab.readings (reading_id, sensor) VALUES (-450, 'again'), (123456789012345678, 'new')";
        snapshot_then(world, run, statements, &truth).await;
    });
}

#[test]
fn names_that_need_quotes_are_quoted() {
    in_world(async |world| {
        world
            .execute(
                "CREATE SCHEMA \"Sch ema\";
                 CREATE TABLE \"Sch ema\".\"we\"\"ird; drop\" (\"K y\" uuid PRIMARY KEY, \"Sel'ect\" text, \"größe\" int);
                 INSERT INTO \"Sch ema\".\"we\"\"ird; drop\" SELECT gen_random_uuid(), 'x' || n, n FROM generate_series(1, 50) AS n",
            )
            .await;
        let run = world
            .sync_es(&["run"])
            .env("POSTGRES_TABLE", "\"Sch ema\".\"we\"\"ird; drop\"")
            .env("POSTGRES_KEY_COLUMN", "\"K y\"")
            .env("SYNC_ES_PUBLICATION", "\"Pub \"\"1\"\"\"");
        let truth = Truth::of(
            "\"Sch ema\".\"we\"\"ird; drop\"",
            "\"K y\"",
            &[
                ("K y", "to_jsonb(\"K y\")"),
                ("Sel''ect", "to_jsonb(\"Sel'ect\")"),
                ("größe", "to_jsonb(\"größe\")"),
            ],
        );
        let statements =
            "UPDATE \"Sch ema\".\"we\"\"ird; drop\" SET \"größe\" = 0 WHERE \"größe\" < 10;
             DELETE FROM \"Sch ema\".\"we\"\"ird; drop\" WHERE \"größe\" > 40";
        snapshot_then(world, run, statements, &truth).await;
    });
}

#[test]
fn a_partitioned_table_is_followed_by_its_root() {
    in_world_of(16, async |world| {
        world
            .execute(
                "ALTER TABLE integrated_records RENAME TO plain;
                 CREATE TABLE integrated_records (LIKE plain INCLUDING DEFAULTS, PRIMARY KEY (hk)) PARTITION BY HASH (hk);
                 CREATE TABLE part_0 PARTITION OF integrated_records FOR VALUES WITH (MODULUS 3, REMAINDER 0);
                 CREATE TABLE part_1 PARTITION OF integrated_records FOR VALUES WITH (MODULUS 3, REMAINDER 1);
                 CREATE TABLE part_2 PARTITION OF integrated_records FOR VALUES WITH (MODULUS 3, REMAINDER 2);
                 DROP TABLE plain",
            )
            .await;
        let workload = Workload::new(world, 600).await;
        workload.fill(world).await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        let writers = workload.start(world).await;
        wait_until("there are changes enough", async || {
            (writers.changes() > 1_500).then_some(())
        })
        .await;
        writers.stop().await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        // Of the root: PostgreSQL does not send a TRUNCATE of one partition in the root's name
        // (manual: "CREATE PUBLICATION", `publish_via_partition_root`).
        world
            .execute(
                "TRUNCATE integrated_records; INSERT INTO integrated_records (hk) VALUES ('after')",
            )
            .await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

#[test]
fn a_column_added_while_the_stream_runs_is_a_field_from_then_on() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        world
            .execute(
                "UPDATE integrated_records SET name = 'before' WHERE hk = 'row-1';
                 BEGIN;
                 UPDATE integrated_records SET name = 'same transaction' WHERE hk = 'row-2';
                 ALTER TABLE integrated_records ADD COLUMN rating int;
                 UPDATE integrated_records SET rating = 5 WHERE hk = 'row-3';
                 COMMIT;
                 UPDATE integrated_records SET name = 'after' WHERE hk = 'row-4';
                 INSERT INTO integrated_records (hk, rating) VALUES ('new', 4)",
            )
            .await;
        world.caught_up(&mut program).await;
        let truth = Truth::organizations_with(&[("rating", "to_jsonb(rating)")]);
        assert_equal(world, &truth).await;
        program.stop().await;
        let mut program = world.run();
        world
            .execute("UPDATE integrated_records SET rating = 3 WHERE hk = 'row-5'")
            .await;
        world.caught_up(&mut program).await;
        assert_equal(world, &truth).await;
        program.stop().await;
    });
}
