//! What is too much for Elasticsearch: now, and whatever the load. Less is sent until it takes more
//! again; what it can never take holds up nobody.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use elasticsearch::http::Method;
use serde_json::json;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    snapshot::add_rows,
    support::{Message, Proxy, Truth, World, assert_equal, compare, in_world},
};

#[test]
fn an_overload_makes_requests_smaller_until_full_ones_are_taken_again() {
    in_world(async |world| {
        add_rows(world, 9_000).await;
        let proxy = Proxy::start(world).await;
        proxy.refuse_bulks(12);
        let run = world
            .sync_es(&["run", "--snapshot-only"])
            .through(&proxy)
            .env("ES_CLIENT_BATCH_SIZE", 100)
            .env("ES_RETRY_BACKOFF_SECONDS", 0.05)
            .env("ES_RETRY_MAX_BACKOFF_SECONDS", 0.1);
        run.output().await.succeeded();
        assert_equal(world, &Truth::organizations()).await;
        let sizes = proxy.documents();
        let (refused, taken) = sizes.split_at(12);
        let smallest = *taken.iter().min().unwrap();
        assert!(smallest <= 13, "{refused:?}, then {taken:?}");
        let last = taken.len() - taken.len() / 4;
        assert!(taken[last..].contains(&100), "{refused:?}, then {taken:?}");
    });
}

#[test]
fn a_wait_that_an_answer_asks_for_is_waited() {
    in_world(async |world| {
        add_rows(world, 1).await;
        let door = Door::open(world).await;
        door.rule(Rule::BusyOnce { seconds: 2 });
        let run = world
            .sync_es(&["run", "--snapshot-only"])
            .env("ELASTICSEARCH_URLS", door.url())
            .env("ES_RETRY_BACKOFF_SECONDS", 0.01);
        run.output().await.succeeded();
        let came = door.bulks();
        let wait = came[1].at - came[0].at;
        assert!(wait >= Duration::from_secs(2), "{wait:?}");
    });
}

#[test]
fn a_limit_of_the_body_is_learned_and_a_document_above_it_holds_up_nobody() {
    in_world(async |world| {
        let rows = "INSERT INTO integrated_records (hk, description)
             SELECT 'n-' || lpad(n::text, 6, '0'), repeat('word ', 200) FROM generate_series(1, 4000) AS n";
        world.execute(rows).await;
        let large = "INSERT INTO integrated_records (hk, description) VALUES ('n-001000-large', repeat('word ', 20000))";
        world.execute(large).await;
        let door = Door::open(world).await;
        door.rule(Rule::BodyBytesMax(60_000));
        let run = world
            .sync_es(&["run", "--snapshot-only"])
            .env("ELASTICSEARCH_URLS", door.url());
        let outcome = run.output().await;
        assert_eq!(outcome.code, Some(3), "{}", outcome.log);
        outcome.failed_naming(&["n-001000-large", "413"]);
        let differences = compare(world, world.alias(), &Truth::organizations()).await;
        let found = (
            differences.missing,
            differences.extra,
            differences.different,
        );
        assert_eq!(found, (1, 0, 0), "{differences}");
        // Four lanes begin too large, and the large document twice at most.
        let refused = door.bulks().iter().filter(|bulk| bulk.refused).count();
        assert!(
            (2..=8).contains(&refused),
            "{refused} requests were too large"
        );
        let books = world.latest_run().await.unwrap();
        assert_eq!(books["n_input_records"], 4_001, "{books}");
        assert_eq!(books["n_output_records"], 4_000, "{books}");
        assert_eq!(books["n_dead_letters"], 1, "{books}");
        world
            .execute(
                "UPDATE integrated_records SET description = 'short' WHERE hk = 'n-001000-large'",
            )
            .await;
        run.output().await.succeeded();
        assert_equal(world, &Truth::organizations()).await;
        assert!(world.dead_letters().await.is_empty());
    });
}

/// Characters of a document that a server with a heap of 1 GB takes or not, by its version.
const DOUBTFUL: usize = 30_000_000;

/// Whether this server takes a document of [`DOUBTFUL`] characters when it has nothing else to do.
async fn takes_the_doubtful(world: &World) -> bool {
    let path = format!("/{}-trial/_doc/1", world.name);
    let document = json!({ "description": "x".repeat(DOUBTFUL) });
    let mapping = json!({ "mappings": { "properties": { "description": { "type": "text", "index": false } } } });
    world
        .search
        .must(
            Method::Put,
            &format!("/{}-trial", world.name),
            Some(mapping),
        )
        .await;
    let (status, answer) = world.search.ask(Method::Put, &path, Some(document)).await;
    assert!(status == 201 || status == 429, "{status} {answer}");
    status == 201
}

#[test]
fn a_document_that_no_idle_server_has_room_for_holds_up_nobody() {
    in_world(async |world| {
        add_rows(world, 50).await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        let taken = takes_the_doubtful(world).await;
        world
            .execute(&format!(
                "INSERT INTO integrated_records (hk, attributes) VALUES ('doubtful', jsonb_build_object('x', repeat('x', {DOUBTFUL})));
                 INSERT INTO integrated_records (hk, name) SELECT 'after-' || n, 'n' FROM generate_series(1, 300) AS n"
            ))
            .await;
        world.caught_up(&mut program).await;
        let letters = world.dead_letters().await;
        if taken {
            assert!(letters.is_empty(), "{letters:?}");
        } else {
            assert_eq!(letters.len(), 1);
            let letter = &letters[0];
            assert_eq!(letter["key"], "doubtful", "{letter}");
            assert_eq!(letter["kind"], "es_rejected_execution_exception");
            assert!(letter["document"].is_null());
            let reason = letter["reason"].as_str().unwrap();
            assert!(reason.contains("bytes are left out here"), "{reason}");
        }
        let count = world.search.count(world.alias()).await.unwrap();
        assert_eq!(count, 350 + u64::from(taken));
        world
            .execute("DELETE FROM integrated_records WHERE hk = 'doubtful'")
            .await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        assert!(world.dead_letters().await.is_empty());
        program.stop().await;
    });
}

/// What stands before Elasticsearch and refuses bulk requests by a rule, as proxies do.
struct Door {
    address: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    rule: Rule,
    bulks: Vec<Came>,
}

/// A bulk request that came.
#[derive(Clone, Copy)]
struct Came {
    at: Instant,
    refused: bool,
}

#[derive(Default, Clone, Copy)]
enum Rule {
    #[default]
    Pass,
    /// 413 above so many bytes.
    BodyBytesMax(usize),
    /// The next one is refused with 429, and asked to wait.
    BusyOnce { seconds: u64 },
}

impl Door {
    async fn open(world: &World) -> Self {
        let url = world.elasticsearch_url();
        let host = url.host_str().unwrap();
        let target = format!("{host}:{}", url.port_or_known_default().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                // An end of either side ends the connection, which is what a proxy does.
                tokio::spawn(serve(client, target.clone(), Arc::clone(&shared)));
            }
        });
        Self {
            address,
            state,
            task,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn rule(&self, rule: Rule) {
        self.state.lock().unwrap().rule = rule;
    }

    fn bulks(&self) -> Vec<Came> {
        self.state.lock().unwrap().bulks.clone()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    /// The answer, if it is not passed on.
    fn refuse(&mut self, line: &str, body_bytes: usize) -> Option<String> {
        if !line.contains("_v1/_bulk") {
            return None;
        }
        let answer = match self.rule {
            Rule::BodyBytesMax(max) if body_bytes > max => {
                Some("413 Content Too Large\r\n".to_owned())
            }
            Rule::BusyOnce { seconds } => {
                self.rule = Rule::Pass;
                Some(format!(
                    "429 Too Many Requests\r\nretry-after: {seconds}\r\n"
                ))
            }
            Rule::Pass | Rule::BodyBytesMax(_) => None,
        };
        self.bulks.push(Came {
            at: Instant::now(),
            refused: answer.is_some(),
        });
        answer.map(|answer| format!("HTTP/1.1 {answer}content-length: 0\r\n\r\n"))
    }
}

/// Passes one client's requests on, one after the other.
async fn serve(client: TcpStream, target: String, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let mut server = BufReader::new(TcpStream::connect(target).await?);
    loop {
        let request = Message::read(&mut client, false).await?;
        let refused = state
            .lock()
            .unwrap()
            .refuse(&request.line(), request.body.len());
        if let Some(answer) = refused {
            client.write_all(answer.as_bytes()).await?;
            continue;
        }
        request.write(&mut server).await?;
        let bodyless = request.line().starts_with("HEAD ");
        let answer = Message::read(&mut server, bodyless).await?;
        answer.write(&mut client).await?;
    }
}
