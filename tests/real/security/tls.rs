//! TLS: a server that cannot prove who it is gets neither a password nor a row.

use crate::{
    snapshot::add_rows,
    support::{
        Arrival, Authority, Door, ElasticsearchGate, Outcome, PostgresGate, Truth, World,
        assert_equal, in_world,
    },
};

const ONE_SHOT: &[&str] = &["run", "--snapshot-only"];

/// A one-shot run through a gate with this door, and who arrived at the gate.
async fn arriving(world: &World, door: Door, parameters: &str) -> (Outcome, Vec<Arrival>) {
    let gate = PostgresGate::start(world, vec![door]).await;
    let run = world
        .sync_es(ONE_SHOT)
        .env("POSTGRES_URL", gate.url(parameters));
    (run.output().await, gate.arrivals())
}

/// The parameters let the program in, and every connection is, or is not, encrypted.
async fn let_in(world: &World, door: &Door, parameters: &str, encrypted: bool) {
    // A run that finds nothing to do would not read the table.
    world
        .execute("SELECT pg_logical_emit_message(true, 'next', 'a higher LSN')")
        .await;
    let (outcome, arrivals) = arriving(world, door.clone(), parameters).await;
    assert_eq!(outcome.code, Some(0), "{parameters}\n{}", outcome.log);
    assert!(!arrivals.is_empty());
    let as_expected = |arrival: &Arrival| arrival.encrypted == encrypted;
    assert!(
        arrivals.iter().all(as_expected),
        "{parameters}: {arrivals:?}"
    );
}

/// The program ends, saying this, and has told nothing to whoever answered.
async fn kept_out(world: &World, door: &Door, parameters: &str, says: &str) {
    let (outcome, arrivals) = arriving(world, door.clone(), parameters).await;
    assert_eq!(outcome.code, Some(10), "{parameters}\n{}", outcome.log);
    assert!(
        outcome.log.contains(says),
        "{parameters}: {says}\n{}",
        outcome.log
    );
    assert_eq!(arrivals, [], "{parameters}");
}

#[test]
fn each_sslmode_verifies_what_it_says() {
    in_world(async |world| {
        add_rows(world, 3).await;
        let authority = Authority::new("sync-es test authority");
        let roots = world.file("ca.pem", &authority.pem());
        let root = format!("sslrootcert={}", roots.display());
        let right = Door::tls(&authority.server("localhost"));
        let named_otherwise = Door::tls(&authority.server("other.example"));
        let expired = Door::tls(&authority.expired("localhost"));
        let foreign = Door::tls(&Authority::new("somebody else").server("localhost"));
        let plain = Door::plain();

        let with = |mode: &str| format!("sslmode={mode}&{root}");
        let full = with("verify-full");
        let_in(world, &right, &full, true).await;
        kept_out(world, &named_otherwise, &full, "not valid for name").await;
        kept_out(world, &expired, &full, "expired").await;
        kept_out(world, &foreign, &full, "POSTGRES_CA_CERT").await;
        kept_out(world, &right, "sslmode=verify-full", "POSTGRES_CA_CERT").await;
        kept_out(world, &plain, &full, "does not speak TLS").await;

        let chain = with("verify-ca");
        let_in(world, &right, &chain, true).await;
        let_in(world, &named_otherwise, &chain, true).await;
        kept_out(world, &expired, &chain, "expired").await;
        kept_out(world, &foreign, &chain, "POSTGRES_CA_CERT").await;
        kept_out(world, &plain, &chain, "does not speak TLS").await;

        let_in(world, &foreign, "sslmode=require", true).await;
        // As libpq has it: with a root certificate at hand the chain is verified.
        kept_out(world, &foreign, &with("require"), "POSTGRES_CA_CERT").await;
        kept_out(world, &plain, "sslmode=require", "does not speak TLS").await;

        let_in(world, &foreign, "sslmode=prefer", true).await;
        let_in(world, &plain, "sslmode=prefer", false).await;
        let_in(world, &plain, "", false).await;
        let_in(world, &right, "", true).await;
        let_in(world, &right, "sslmode=disable", false).await;
        let_in(world, &right, "sslmode=allow", false).await;
    });
}

#[test]
fn the_stream_is_encrypted_and_verified_as_the_queries_are() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let authority = Authority::new("sync-es test authority");
        let roots = world.file("ca.pem", &authority.pem());
        let door = Door::tls(&authority.server("localhost"));
        let gate = PostgresGate::start(world, vec![door]).await;
        let mut program = world
            .sync_es(&["run"])
            .env("POSTGRES_URL", gate.url("sslmode=verify-full"))
            .env("POSTGRES_CA_CERT", roots.display())
            .start();
        world.caught_up(&mut program).await;
        world
            .execute("UPDATE integrated_records SET name = 'through TLS'")
            .await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
        let arrivals = gate.arrivals();
        assert!(
            arrivals.iter().all(|arrival| arrival.encrypted),
            "{arrivals:?}"
        );
        assert!(
            arrivals.iter().any(|arrival| arrival.replication),
            "{arrivals:?}"
        );
    });
}

/// The session for queries is the first connection. Whoever answers the second, for the slot, must
/// prove the same.
#[test]
fn an_impostor_that_answers_for_the_stream_is_told_nothing() {
    in_world(async |world| {
        add_rows(world, 3).await;
        let authority = Authority::new("sync-es test authority");
        let roots = world.file("ca.pem", &authority.pem());
        let right = Door::tls(&authority.server("localhost"));
        for impostor in [
            Door::tls(&Authority::new("somebody else").server("localhost")),
            Door::tls(&authority.server("other.example")),
            Door::tls(&authority.expired("localhost")),
            Door::plain(),
        ] {
            let gate = PostgresGate::start(world, vec![right.clone(), impostor]).await;
            let outcome = world
                .sync_es(&["run"])
                .env("POSTGRES_URL", gate.url("sslmode=verify-full"))
                .env("POSTGRES_CA_CERT", roots.display())
                .output()
                .await;
            assert_eq!(outcome.code, Some(10), "{}", outcome.log);
            let only = Arrival {
                encrypted: true,
                replication: false,
            };
            assert_eq!(gate.arrivals(), [only], "{}", outcome.log);
        }
    });
}

#[test]
fn a_client_certificate_is_shown_on_both_connections() {
    in_world(async |world| {
        add_rows(world, 3).await;
        let authority = Authority::new("sync-es test authority");
        let roots = world.file("ca.pem", &authority.pem());
        let client = authority.client("sync_es");
        let certificate = world.file("client.crt", &client.certificate);
        let key = world.file("client.key", &client.key);
        let door = Door::for_clients_of(&authority.server("localhost"), &authority);
        let verified = format!("sslmode=verify-full&sslrootcert={}", roots.display());
        kept_out(world, &door, &verified, "sslcert").await;
        let gate = PostgresGate::start(world, vec![door]).await;
        let url = gate.url(&format!(
            "{verified}&sslcert={}&sslkey={}",
            certificate.display(),
            key.display()
        ));
        let mut program = world.sync_es(&["run"]).env("POSTGRES_URL", url).start();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
        assert!(gate.arrivals().iter().any(|arrival| arrival.replication));
    });
}

#[test]
fn elasticsearch_must_prove_who_it_is_even_on_this_machine() {
    in_world(async |world| {
        add_rows(world, 3).await;
        let authority = Authority::new("sync-es test authority");
        let roots = world.file("ca.pem", &authority.pem());
        let foreign = Authority::new("somebody else").server("localhost");
        let right = authority.server("localhost");
        let gate = ElasticsearchGate::start(world, Door::tls(&right)).await;
        let untrusting = world
            .sync_es(ONE_SHOT)
            .env("ELASTICSEARCH_URLS", gate.url());
        untrusting
            .output()
            .await
            .failed_naming(&["ELASTICSEARCH_CA_CERT"]);
        assert_eq!(gate.seen(), []);
        for (identity, says) in [
            (right, None),
            (foreign, Some("ELASTICSEARCH_CA_CERT")),
            (
                authority.server("other.example"),
                Some("ELASTICSEARCH_URLS"),
            ),
            (authority.expired("localhost"), Some("expired")),
        ] {
            let gate = ElasticsearchGate::start(world, Door::tls(&identity)).await;
            let run = world
                .sync_es(ONE_SHOT)
                .env("ELASTICSEARCH_URLS", gate.url());
            let outcome = run
                .env("ELASTICSEARCH_CA_CERT", roots.display())
                .output()
                .await;
            match says {
                None => outcome.succeeded(),
                Some(says) => {
                    outcome.failed_naming(&[says]);
                    assert_eq!(outcome.code, Some(11));
                    assert_eq!(gate.seen(), []);
                }
            }
        }
        assert_equal(world, &Truth::organizations()).await;
    });
}
