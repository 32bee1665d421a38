//! Credentials towards Elasticsearch: given in each way, refused, renewed while the program runs.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use crate::{
    snapshot::add_rows,
    support::{Door, ElasticsearchGate, Truth, assert_equal, in_world},
};

const ONE_SHOT: &[&str] = &["run", "--snapshot-only"];

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

#[test]
fn elasticsearch_lets_in_who_has_the_right_credentials_and_nobody_else() {
    in_world(async |world| {
        add_rows(world, 3).await;
        let gate = ElasticsearchGate::start(world, Door::plain()).await;
        let key = BASE64.encode("id:key");
        gate.accept(&[&basic("sync", "p:ä\"ss"), &format!("ApiKey {key}")]);
        let password = world.file("password", "p:ä\"ss\n");
        let password = password.display().to_string();
        let run = world
            .sync_es(ONE_SHOT)
            .env("ELASTICSEARCH_URLS", gate.url());
        for credentials in [
            &[
                ("ELASTICSEARCH_USERNAME", "sync"),
                ("ELASTICSEARCH_PASSWORD", "p:ä\"ss"),
            ][..],
            &[
                ("ELASTICSEARCH_USERNAME", "sync"),
                ("ELASTICSEARCH_PASSWORD_FILE", &password),
            ],
            &[("ELASTICSEARCH_API_KEY", &key)],
            &[("ELASTICSEARCH_API_KEY", "id:key")],
        ] {
            let run = credentials
                .iter()
                .fold(run.clone(), |run, (name, value)| run.env(name, value));
            run.output().await.succeeded();
        }
        assert_equal(world, &Truth::organizations()).await;
        assert_eq!(gate.refused(), 0);
        for wrong in [
            run.clone(),
            run.clone().env("ELASTICSEARCH_API_KEY", "aWQ6b3RoZXI="),
            run.env("ELASTICSEARCH_USERNAME", "sync")
                .env("ELASTICSEARCH_PASSWORD", "other"),
        ] {
            let outcome = wrong.output().await;
            outcome.failed_naming(&["(401)", "ELASTICSEARCH_API_KEY"]);
            assert_eq!(outcome.code, Some(11), "{}", outcome.log);
        }
    });
}

/// The old key is taken back before the new one is where the program looks: it waits, says so, drops
/// nothing, and goes on by itself.
#[test]
fn a_key_that_is_renewed_in_its_file_is_taken_up_without_a_restart() {
    in_world(async |world| {
        add_rows(world, 50).await;
        let gate = ElasticsearchGate::start(world, Door::plain()).await;
        gate.accept(&["ApiKey b2xkOmtleQ=="]);
        let file = world.file("api_key", "old:key\n");
        let mut program = world
            .sync_es(&["run"])
            .env("ELASTICSEARCH_URLS", gate.url())
            .env("ELASTICSEARCH_API_KEY_FILE", file.display())
            .env("ES_MAX_RETRIES", 1)
            .env("ES_RETRY_BACKOFF_SECONDS", 0.05)
            .env("ES_RETRY_MAX_BACKOFF_SECONDS", 0.1)
            .start();
        world.caught_up(&mut program).await;

        gate.accept(&["ApiKey bmV3OmtleQ=="]);
        world
            .execute(
                "UPDATE integrated_records SET name = 'while no key is known';
                 DELETE FROM integrated_records WHERE hk = 'row-7'",
            )
            .await;
        let written: i64 = world
            .ask("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
            .await
            .unwrap();
        program
            .until_log("the refusal is told, with what to check", |log| {
                log.contains("(401)") && log.contains("ELASTICSEARCH_API_KEY")
            })
            .await;
        let refused = gate.refused();
        program
            .until("it goes on trying", async || {
                (gate.refused() > refused + 20).then_some(())
            })
            .await;
        assert!(world.confirmed().await.unwrap() < u64::try_from(written).unwrap());

        world.file("api_key", "new:key\n");
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        assert!(world.dead_letters().await.is_empty());
        program.stop().await;
    });
}

#[test]
fn a_one_shot_run_whose_key_is_taken_back_gives_up_and_resumes_with_the_next() {
    in_world(async |world| {
        add_rows(world, 500).await;
        let gate = ElasticsearchGate::start(world, Door::plain()).await;
        gate.accept(&["ApiKey b2xkOmtleQ=="]);
        let mut run = world
            .sync_es(ONE_SHOT)
            .env("ELASTICSEARCH_URLS", gate.url())
            .env("ELASTICSEARCH_API_KEY", "old:key")
            .env("ES_CLIENT_BATCH_SIZE", 10)
            .env("ES_MAX_RETRIES", 2)
            .env("ES_RETRY_BACKOFF_SECONDS", 0.01);
        let mut program = run.start();
        program
            .until("some documents are in", async || {
                world
                    .search
                    .count(&world.index())
                    .await
                    .filter(|count| *count > 0)
            })
            .await;
        gate.accept(&["ApiKey bmV3OmtleQ=="]);
        let outcome = program.ended().await;
        // Unless it was faster.
        if outcome.code != Some(0) {
            outcome.failed_naming(&["(401)"]);
            assert_eq!(outcome.code, Some(5), "{}", outcome.log);
        }
        run = run.env("ELASTICSEARCH_API_KEY", "new:key");
        run.output().await.succeeded();
        assert_equal(world, &Truth::organizations()).await;
    });
}

/// HTTP lets a server send its client elsewhere; whoever is there must not learn who we are.
#[test]
fn a_redirect_takes_no_credentials_to_another_host() {
    in_world(async |world| {
        add_rows(world, 3).await;
        let thief = ElasticsearchGate::start(world, Door::plain()).await;
        let gate = ElasticsearchGate::start(world, Door::plain()).await;
        gate.redirect(&thief.url());
        let outcome = world
            .sync_es(ONE_SHOT)
            .env("ELASTICSEARCH_URLS", gate.url())
            .env("ELASTICSEARCH_API_KEY", "id:key")
            .output()
            .await;
        outcome.failed_naming(&["redirects to", &thief.url()]);
        assert!(gate.seen().iter().all(Option::is_some));
        assert!(
            thief.seen().iter().all(Option::is_none),
            "{:?}",
            thief.seen()
        );
    });
}
