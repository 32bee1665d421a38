//! No secret is ever told. Canaries stand in every place that a secret can come from; at the highest
//! log level of every library, in success and under each failure, none of them is found in anything
//! that others can see: output, command line, indices, templates, PostgreSQL's own views.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use elasticsearch::http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    snapshot::add_rows,
    support::{Door, ElasticsearchGate, Invocation, World, in_world},
};

/// All that anybody has to say, in either form.
const LOUDEST: &str = "trace,pgwire_replication=trace";
const FORMATS: [&str; 2] = ["json", "text"];
const ONE_SHOT: &[&str] = &["run", "--snapshot-only"];

/// A variable of the program's environment.
type Variable = (&'static str, String);

/// A secret that cannot be anywhere by chance.
struct Canary {
    word: String,
    /// The word between characters that mean something in a URL, a connection string, JSON or SQL.
    secret: String,
}

impl Canary {
    fn new() -> Self {
        let word = format!("Ky{:016x}", rand::random::<u64>());
        let secret = format!("{word}:@/?#%&+= '\"\\$é{word}");
        Self { word, secret }
    }

    /// As it stands in a URL.
    fn encoded(&self) -> String {
        utf8_percent_encode(&self.secret, NON_ALPHANUMERIC).to_string()
    }

    /// As it stands in a connection string, between single quotes.
    fn quoted(&self) -> String {
        self.secret.replace('\\', r"\\").replace('\'', r"\'")
    }

    /// The word itself, and as it stands in the base64 of a longer text, wherever in it.
    fn traces(&self) -> Vec<String> {
        let mut traces = vec![self.word.to_lowercase()];
        for before in ["", "x", "xx"] {
            let encoded = BASE64
                .encode(format!("{before}{}", self.word))
                .to_lowercase();
            // What is before and behind the word has a say in the first and the last four.
            traces.push(encoded[4..encoded.len() - 4].to_owned());
        }
        traces
    }

    #[track_caller]
    fn is_not_in(&self, text: &str, place: &str) {
        let lower = text.to_lowercase();
        for trace in self.traces() {
            if let Some(at) = lower.find(&trace) {
                let around = lower[..at].chars().rev().take(200).collect::<Vec<_>>();
                let around: String = around.into_iter().rev().collect();
                panic!("a secret is told in {place}: {around}{trace}");
            }
        }
    }
}

/// What others can see of a world: Elasticsearch's indices with their documents, mappings, `_meta` and
/// settings, its templates, and what PostgreSQL tells of sessions, slots and publications.
async fn visible(world: &World) -> String {
    let search = &world.search;
    let mut all = String::new();
    for path in [
        format!("/{}*", world.name),
        format!("/{}*/_search?size=1000&version=true", world.name),
        "/_index_template".to_owned(),
        "/_tasks?detailed=true".to_owned(),
    ] {
        all += &search.must(Method::Get, &path, None).await.to_string();
    }
    let views = "SELECT concat_ws(E'\\n',
             (SELECT string_agg(to_jsonb(a)::text, ' ') FROM pg_stat_activity AS a),
             (SELECT string_agg(to_jsonb(s)::text, ' ') FROM pg_replication_slots AS s),
             (SELECT string_agg(to_jsonb(p)::text, ' ') FROM pg_publication AS p))";
    all + &world.ask::<String>(views).await.unwrap()
}

/// A role of this world with the canary as its password; gone with [`drop_role`].
async fn role(world: &World, canary: &Canary) -> String {
    let role = format!("role_{}", world.name);
    world
        .execute(&format!(
            "CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{}'",
            canary.secret.replace('\'', "''")
        ))
        .await;
    role
}

async fn drop_role(world: &World, role: &str) {
    world
        .execute(&format!(
            "REASSIGN OWNED BY {role} TO CURRENT_USER; DROP ROLE {role}"
        ))
        .await;
}

/// `POSTGRES_URL` of the world, with another user and this as its password.
fn url(world: &World, role: &str, password: &str) -> String {
    let url = world.postgres_url();
    let (host, port) = (url.host_str().unwrap(), url.port().unwrap_or(5432));
    let password = if password.is_empty() {
        String::new()
    } else {
        format!(":{password}")
    };
    format!("postgresql://{role}{password}@{host}:{port}/{}", world.name)
}

/// Each way to give PostgreSQL's password.
fn places_of_the_password(world: &World, role: &str, pg: &Canary) -> [Vec<Variable>; 5] {
    let bare = || ("POSTGRES_URL", url(world, role, ""));
    let full = url(world, role, &pg.encoded());
    let server = world.postgres_url();
    let pairs = format!(
        "host={} port={} dbname={} user={role} password='{}'",
        server.host_str().unwrap(),
        server.port().unwrap_or(5432),
        world.name,
        pg.quoted()
    );
    let escaped = pg.secret.replace('\\', r"\\").replace(':', r"\:");
    let passfile = world.file("pgpass", &format!("*:*:*:{role}:{escaped}\n"));
    private(&passfile);
    let url_file = world.file("url", &full).display().to_string();
    [
        vec![("POSTGRES_URL", full)],
        vec![("POSTGRES_URL", pairs)],
        vec![bare(), ("PGPASSWORD", pg.secret.clone())],
        vec![bare(), ("PGPASSFILE", passfile.display().to_string())],
        vec![("POSTGRES_URL_FILE", url_file)],
    ]
}

/// Each way to give Elasticsearch's credentials.
fn places_of_the_credentials(world: &World, es: &Canary, key: &str) -> [Vec<Variable>; 4] {
    let user = || ("ELASTICSEARCH_USERNAME", "canary".to_owned());
    let file = |name, text| world.file(name, text).display().to_string();
    [
        vec![user(), ("ELASTICSEARCH_PASSWORD", es.secret.clone())],
        vec![
            user(),
            ("ELASTICSEARCH_PASSWORD_FILE", file("password", &es.secret)),
        ],
        vec![("ELASTICSEARCH_API_KEY", key.to_owned())],
        vec![("ELASTICSEARCH_API_KEY_FILE", file("key", key))],
    ]
}

#[test]
fn a_run_that_succeeds_tells_no_secret_wherever_it_came_from() {
    in_world(async |world| {
        add_rows(world, 5).await;
        let (pg, es) = (Canary::new(), Canary::new());
        let role = role(world, &pg).await;
        let gate = ElasticsearchGate::start(world, Door::plain()).await;
        let basic = format!("Basic {}", BASE64.encode(format!("canary:{}", es.secret)));
        let key = BASE64.encode(format!("id-{}:{}", es.word, es.word));
        gate.accept(&[&basic, &format!("ApiKey {key}")]);

        let postgres = places_of_the_password(world, &role, &pg);
        let elasticsearch = places_of_the_credentials(world, &es, &key);
        for (round, given) in postgres.iter().enumerate() {
            let run = world
                .sync_es(ONE_SHOT)
                .unset("POSTGRES_URL")
                .env("ELASTICSEARCH_URLS", gate.url())
                .env("SYNC_ES_LOG", LOUDEST)
                .env("SYNC_ES_LOG_FORMAT", FORMATS[round % 2]);
            let run = with(
                with(run, given),
                &elasticsearch[round % elasticsearch.len()],
            );
            let outcome = run.output().await;
            let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
            for canary in [&pg, &es] {
                canary.is_not_in(&outcome.log, &format!("the log of {names:?}"));
            }
            outcome.succeeded();
            assert!(
                outcome.log.contains("TRACE"),
                "the log is not at its loudest"
            );
        }
        assert_eq!(gate.refused(), 0);
        let seen = visible(world).await;
        pg.is_not_in(&seen, "what others can see");
        es.is_not_in(&seen, "what others can see");
        drop_role(world, &role).await;
    });
}

/// While it streams, sets a document aside, is refused by Elasticsearch, and stops by name.
#[test]
fn an_always_on_run_tells_no_secret_in_trouble_either() {
    in_world(async |world| {
        add_rows(world, 5).await;
        let (pg, es) = (Canary::new(), Canary::new());
        let role = role(world, &pg).await;
        let gate = ElasticsearchGate::start(world, Door::plain()).await;
        let basic = format!("Basic {}", BASE64.encode(format!("canary:{}", es.secret)));
        gate.accept(&[&basic]);
        for format in FORMATS {
            let run = world
                .sync_es(&["run"])
                .env("POSTGRES_URL", url(world, &role, &pg.encoded()))
                .env("ELASTICSEARCH_URLS", gate.url())
                .env("ELASTICSEARCH_USERNAME", "canary")
                .env("ELASTICSEARCH_PASSWORD", &es.secret)
                .env("ES_RETRY_BACKOFF_SECONDS", 0.05)
                .env("ES_RETRY_MAX_BACKOFF_SECONDS", 0.1)
                .env("SYNC_ES_LOG", LOUDEST)
                .env("SYNC_ES_LOG_FORMAT", format);
            let mut program = run.start();
            world.caught_up(&mut program).await;
            world
                .execute("INSERT INTO integrated_records (hk) VALUES (repeat('k', 600))")
                .await;
            world.caught_up(&mut program).await;
            assert_eq!(world.dead_letters().await.len(), 1);
            gate.accept(&["nobody"]);
            world
                .execute("DELETE FROM integrated_records WHERE length(hk) = 600")
                .await;
            program
                .until_log("it is refused", |log| log.contains("(401)"))
                .await;
            let command_line = std::fs::read(format!("/proc/{}/cmdline", program.id())).unwrap();
            let command_line = String::from_utf8_lossy(&command_line).into_owned();
            let seen = visible(world).await;
            gate.accept(&[&basic]);
            world.caught_up(&mut program).await;
            let mut log = program.stop().await.log;
            // A stop by name.
            world.drop_slot().await;
            let outcome = run.output().await;
            assert_eq!(outcome.code, Some(20), "{}", outcome.log);
            log += &outcome.log;
            for canary in [&pg, &es] {
                canary.is_not_in(&log, "the log");
                canary.is_not_in(&command_line, "the command line");
                canary.is_not_in(&seen, "what others can see");
                canary.is_not_in(&visible(world).await, "what others can see");
            }
            // The next round begins anew.
            for index in world.search.indices(&format!("{}*", world.name)).await {
                world
                    .search
                    .must(Method::Delete, &format!("/{index}"), None)
                    .await;
            }
        }
        drop_role(world, &role).await;
    });
}

#[test]
fn a_refusal_and_an_end_that_is_not_there_are_told_without_the_secret() {
    in_world(async |world| {
        let canary = Canary::new();
        let wrong = url(world, "postgres", &canary.encoded());
        let nowhere = format!("postgresql://u:{}@127.0.0.1:1/d", canary.encoded());
        let unknown = format!("postgresql://u:{}@no-such-host.invalid/d", canary.encoded());
        let gate = ElasticsearchGate::start(world, Door::plain()).await;
        gate.accept(&["nobody"]);
        let gate = gate.url();
        let key = || ("ELASTICSEARCH_API_KEY", canary.word.clone());
        let user = || ("ELASTICSEARCH_USERNAME", "u".to_owned());
        let password = || ("ELASTICSEARCH_PASSWORD", canary.secret.clone());
        let nodes = |url: &str| ("ELASTICSEARCH_URLS", url.to_owned());
        let nobody = url(world, "nobody", "");
        let cases = [
            vec![("POSTGRES_URL", wrong)],
            vec![
                ("PGPASSWORD", canary.secret.clone()),
                ("POSTGRES_URL", nobody),
            ],
            vec![("POSTGRES_URL", nowhere)],
            vec![("POSTGRES_URL", unknown)],
            vec![key(), nodes(&gate)],
            vec![user(), password(), nodes(&gate)],
            vec![key(), nodes("http://127.0.0.1:1")],
            vec![user(), password(), nodes("https://no-such-host.invalid")],
        ];
        for (case, variables) in cases.iter().enumerate() {
            for (arguments, format) in [(&["run"][..], "json"), (ONE_SHOT, "text")] {
                let run = world
                    .sync_es(arguments)
                    .env("SYNC_ES_LOG", LOUDEST)
                    .env("SYNC_ES_LOG_FORMAT", format);
                let outcome = with(run, variables).output().await;
                assert!(
                    matches!(outcome.code, Some(10 | 11)),
                    "{case}\n{}",
                    outcome.log
                );
                canary.is_not_in(&outcome.log, &format!("the log of case {case}"));
            }
        }
    });
}

/// Connection strings that are none, the secret in each place.
fn malformed_urls(canary: &Canary) -> Vec<String> {
    let (word, secret) = (&canary.word, &canary.secret);
    vec![
        format!("postgresql://u:{word}%zz@db/d"),
        format!("postgresql://u:{secret}@db/d"),
        format!("postgresql://u:a@{word}@db/d"),
        format!("postgresql://u:a/{word}@db/d"),
        format!("postgresql://u:1/{word}@db/d"),
        format!("postgresql://u:a#{word}@db:5432/d"),
        format!("postgresql://u:a?{word}@db/d"),
        format!("postgresql://u:a:{word}@[::1/d"),
        format!("postgresql://db/d?sslpassword={word}"),
        format!("postgresql://db/d?{word}=1"),
        format!("postgresql://db/d?sslmode={word}"),
        format!("postgresql://db/d?passwrd={word}"),
        format!("postgresql://db:{word}/d"),
        format!("host=db {word}"),
        format!("host=db password='{word}"),
        format!("host=db password = a {word}"),
        format!("host=db port={word}"),
        format!("host=db connect_timeout={word}"),
        format!("postgres//u:{word}@db"),
        format!("mysql://u:{word}@db/d"),
        word.clone(),
    ]
}

/// Settings that cannot be used, the secret in each place.
fn wrong_settings(world: &World, canary: &Canary) -> Vec<Vec<Variable>> {
    let (plain, secret) = (&canary.word, &canary.secret);
    let urls = malformed_urls(canary);
    let node = format!("http://u:{plain}@127.0.0.1:1");
    let mut cases: Vec<Vec<(&str, String)>> = urls
        .iter()
        .map(|url| vec![("POSTGRES_URL", url.clone())])
        .collect();
    let file = |text: &str| {
        let name = format!("{:x}", rand::random::<u64>());
        world.file(&name, text).display().to_string()
    };
    cases.extend(
        urls.iter()
            .map(|url| vec![("POSTGRES_URL_FILE", file(url))]),
    );
    let toml = |text: String| vec![("SYNC_ES_CONFIG", file(&text))];
    cases.extend([
        vec![("ELASTICSEARCH_URLS", node.clone())],
        vec![("ELASTICSEARCH_URLS", format!("es:{plain}"))],
        vec![("ELASTICSEARCH_API_KEY", format!("{plain}\n{plain}"))],
        vec![("ELASTICSEARCH_PASSWORD", secret.clone())],
        vec![
            ("ELASTICSEARCH_API_KEY", plain.clone()),
            ("ELASTICSEARCH_USERNAME", "u".into()),
        ],
        vec![
            ("ELASTICSEARCH_API_KEY", plain.clone()),
            ("ELASTICSEARCH_API_KEY_FILE", file(plain)),
        ],
        vec![("SYNC_ES_PASSWORD", plain.clone())],
        vec![("PGSSLMODE", plain.clone())],
        vec![("PGREQUIREAUTH", plain.clone())],
        toml(format!("elasticsearch_password = {plain}")),
        toml(format!("elasticsearch_password = \"{plain}")),
        toml(format!("elasticsearch_password = ['{plain}']")),
        toml(format!("elasticsearch_pasword = '{plain}'")),
        toml(format!(
            "elasticsearch_api_key = '{plain}'\nelasticsearch_api_key = '{plain}'"
        )),
        toml(format!("[postgres_url]\nurl = '{plain}'")),
        toml(format!("elasticsearch_urls = ['{node}']")),
        toml(format!("postgres_url = 'postgresql://u:{plain}%zz@db/d'")),
    ]);
    let service = format!("[records]\nhost=db\nuser=u\npassword={plain}\n{plain}\n");
    cases.push(vec![
        ("POSTGRES_URL", "service=records".to_owned()),
        ("PGSERVICEFILE", file(&service)),
    ]);

    cases
}

#[test]
fn settings_that_cannot_be_read_are_told_without_the_secret() {
    in_world(async |world| {
        let canary = Canary::new();
        let word = &canary.word;
        let cases = wrong_settings(world, &canary);
        for (number, case) in cases.iter().enumerate() {
            let run = world
                .sync_es(&["run"])
                .env("SYNC_ES_LOG", LOUDEST)
                .env("SYNC_ES_LOG_FORMAT", FORMATS[number % 2]);
            // What the environment says would come before the files.
            let run = match case[0].0 {
                "POSTGRES_URL_FILE" => run.unset("POSTGRES_URL"),
                "SYNC_ES_CONFIG" => run.unset("POSTGRES_URL").unset("ELASTICSEARCH_URLS"),
                _ => run,
            };
            let outcome = with(run, case).output().await;
            assert!(outcome.code.is_some_and(|code| code != 0), "{case:?}");
            canary.is_not_in(&outcome.log, &format!("the log of {case:?}"));
        }
        for flag in [
            "--postgres-url",
            "--elasticsearch-password",
            "--elasticsearch-api-key",
        ] {
            for arguments in [vec![flag, word], vec!["run", flag, word]] {
                let outcome = world.sync_es(&arguments).output().await;
                assert_eq!(outcome.code, Some(2));
                canary.is_not_in(&outcome.log, flag);
            }
        }
    });
}

fn with(run: Invocation, variables: &[Variable]) -> Invocation {
    let variables = variables.iter();
    variables.fold(run, |run, (name, value)| run.env(name, value))
}

/// Readable by its owner alone, as a password file has to be.
fn private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
