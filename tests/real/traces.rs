//! Spans as a collector of OpenTelemetry takes them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{Span, status::StatusCode},
};
use prost::Message as _;
use tokio::{
    io::BufReader,
    net::{TcpListener, TcpStream},
};

use crate::{
    snapshot::add_rows,
    support::{Message, Proxy, in_world},
};

/// A collector that keeps what it is sent.
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = spans.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(stream, kept.clone()));
            }
        });
        Self { url, spans }
    }

    fn named(&self, name: &str) -> Vec<Span> {
        let spans = self.spans.lock().unwrap();
        spans
            .iter()
            .filter(|span| span.name == name)
            .cloned()
            .collect()
    }
}

/// Requests of one connection, each answered with an empty body, which means that all was taken.
async fn take(stream: TcpStream, spans: Arc<Mutex<Vec<Span>>>) {
    let mut stream = BufReader::new(stream);
    while let Ok(request) = Message::read(&mut stream, false).await {
        let line = request.line();
        assert!(line.starts_with("POST /v1/traces "), "{line}");
        let request = ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap();
        let scopes = request
            .resource_spans
            .into_iter()
            .flat_map(|one| one.scope_spans);
        spans
            .lock()
            .unwrap()
            .extend(scopes.flat_map(|one| one.spans));
        let taken = Message::answer("200 OK", Vec::new());
        if taken.write(&mut stream).await.is_err() {
            return;
        }
    }
}

#[test]
fn phases_requests_and_commits_are_spans() {
    in_world(async |world| {
        let collector = Collector::start().await;
        add_rows(world, 300).await;
        let proxy = Proxy::start(world).await;
        proxy.refuse_bulks(1);
        let run = world
            .sync_es(&["run"])
            .through(&proxy)
            .env("ES_CLIENT_BATCH_SIZE", 100)
            .env("ES_RETRY_BACKOFF_SECONDS", 0.05)
            .env("SYNC_ES_OTLP_ENDPOINT", &collector.url);
        let mut program = run.start();
        world.live(&mut program).await;
        world
            .execute("INSERT INTO integrated_records (hk) VALUES ('later')")
            .await;
        world.caught_up(&mut program).await;
        // What is left is sent at the end.
        program.stop().await;
        for phase in ["snapshot", "stream"] {
            assert_eq!(collector.named(phase).len(), 1, "{phase}");
        }
        let requests = collector.named("bulk");
        let failed = requests.iter().filter(|span| {
            let status = span.status.as_ref();
            status.is_some_and(|status| status.code() == StatusCode::Error)
        });
        assert_eq!(failed.count(), 1, "{requests:?}");
        assert!(requests.len() >= 5, "{requests:?}");
        let operations = |span: &Span| {
            let mut attributes = span.attributes.iter();
            attributes.any(|one| one.key == "db.operation.batch.size")
        };
        assert!(requests.iter().all(operations), "{requests:?}");
        let commits = collector.named("commit acknowledged");
        assert!(!commits.is_empty());
        let longest = commits
            .iter()
            .map(|span| span.end_time_unix_nano - span.start_time_unix_nano);
        let minute = Duration::from_mins(1).as_nanos();
        assert!(u128::from(longest.max().unwrap()) < minute, "{commits:?}");
    });
}

#[test]
fn a_collector_that_is_not_there_or_hangs_holds_up_nothing() {
    in_world(async |world| {
        add_rows(world, 50).await;
        let run = async |collector: &str| {
            let run = world.sync_es(&["run", "--snapshot-only"]);
            let run = run.env("SYNC_ES_OTLP_ENDPOINT", format!("http://{collector}"));
            run.output().await
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // Connections are taken, and nothing is ever answered.
        let hangs = run(&address).await;
        hangs.succeeded();
        assert!(
            hangs.log.contains("the last spans were not sent"),
            "{}",
            hangs.log
        );
        drop(listener);
        let nobody = run(&address).await;
        nobody.succeeded();
        assert!(
            nobody.log.contains("spans cannot be sent") && nobody.log.contains("refused"),
            "{}",
            nobody.log
        );
    });
}
