//! Spans for OpenTelemetry, where a collector is named: what the metrics count, one by one.
//!
//! Everything that becomes a span is told when it has ended, with how long it took, so no task carries
//! a context, and nothing is done where no collector is named. Spans are sent from a thread of their own
//! (OTLP over HTTP), in batches; those that a slow collector does not take are dropped, never waited for.

use std::{
    env,
    error::Error,
    fmt, iter,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, SystemTime},
};

use jiff::SignedDuration;
use opentelemetry::{
    KeyValue,
    trace::{Span as _, SpanKind, Status as SpanStatus, Tracer, TracerProvider},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    resource::EnvResourceDetector,
    trace::{SdkTracer, SdkTracerProvider},
};
use reqwest::redirect::Policy;
use url::Url;

use super::{
    metrics::{Outcome, Sent},
    status::Phase,
};

/// How long the collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may hold up the end of the program.
const TIMEOUT_AT_THE_END: Duration = Duration::from_secs(2);

/// Where spans go; nowhere by default.
#[derive(Default)]
pub struct Traces(Option<Collector>);

struct Collector {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// One that has ended, in the words of OpenTelemetry's semantic conventions where they have any.
pub(super) struct Span {
    name: &'static str,
    kind: SpanKind,
    /// Until now.
    took: Duration,
    failed: bool,
    attributes: Vec<KeyValue>,
}

impl Span {
    /// A bulk request into this index.
    pub(super) fn of_request(sent: Sent, index: &str) -> Self {
        let count =
            |name, count: usize| KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX));
        Self {
            name: "bulk",
            kind: SpanKind::Client,
            took: sent.took,
            failed: sent.outcome == Outcome::Failed,
            attributes: vec![
                KeyValue::new("db.system.name", "elasticsearch"),
                KeyValue::new("db.operation.name", "bulk"),
                KeyValue::new("db.collection.name", index.to_owned()),
                count("db.operation.batch.size", sent.operations),
                count("http.request.body.size", sent.bytes),
                KeyValue::new("sync_es.outcome", sent.outcome.name()),
            ],
        }
    }

    /// A phase of a run into this index.
    pub(super) fn of_phase(phase: Phase, took: SignedDuration, failed: bool, index: &str) -> Self {
        Self {
            name: phase.name(),
            kind: SpanKind::Internal,
            took: took.try_into().unwrap_or_default(),
            failed,
            attributes: vec![KeyValue::new("db.collection.name", index.to_owned())],
        }
    }

    /// So many seconds since a commit in PostgreSQL.
    pub(super) fn of_commit(name: &'static str, seconds: f64) -> Self {
        Self {
            name,
            kind: SpanKind::Internal,
            took: Duration::try_from_secs_f64(seconds).unwrap_or_default(),
            failed: false,
            attributes: Vec::new(),
        }
    }
}

/// Spans cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("spans cannot be sent to {endpoint}: {cause}")]
pub struct TracesError {
    endpoint: Url,
    cause: String,
}

impl Traces {
    /// Spans go to this collector: its base address, such as `http://127.0.0.1:4318`, under which
    /// `v1/traces` takes them.
    ///
    /// # Errors
    /// The system gives no thread or no client.
    pub fn to(endpoint: &Url) -> Result<Self, TracesError> {
        let refused = |cause: String| TracesError {
            endpoint: endpoint.clone(),
            cause,
        };
        // A client that waits may not be made among tasks.
        let client = thread::Builder::new()
            .spawn(client)
            .map_err(|error| refused(error.to_string()))?
            .join()
            .map_err(|_| refused("the thread has panicked".to_owned()))?
            .map_err(|error| refused(error.to_string()))?;
        let base = endpoint.as_str().trim_end_matches('/');
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Blocking {
                client,
                endpoint: base.to_owned(),
                failing: AtomicBool::new(false),
            })
            .with_endpoint(format!("{base}/v1/traces"))
            .build()
            .map_err(|error| refused(error.to_string()))?;
        // What the environment says comes first, as OpenTelemetry has it.
        let resource = Resource::builder_empty()
            .with_service_name("sync-es")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_detector(Box::new(EnvResourceDetector::new()));
        let resource = match env::var("OTEL_SERVICE_NAME") {
            Ok(name) if !name.is_empty() => resource.with_service_name(name),
            _ => resource,
        };
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer("sync-es");
        Ok(Self(Some(Collector { provider, tracer })))
    }

    /// Sends a span that has just ended, if anybody wants it.
    pub(super) fn tell(&self, span: impl FnOnce() -> Span) {
        let Some(Collector { tracer, .. }) = &self.0 else {
            return;
        };
        let (ended, now) = (span(), SystemTime::now());
        let mut span = tracer
            .span_builder(ended.name)
            .with_kind(ended.kind)
            .with_start_time(now.checked_sub(ended.took).unwrap_or(now))
            .with_attributes(ended.attributes)
            .start(tracer);
        if ended.failed {
            span.set_status(SpanStatus::error(""));
        }
        span.end_with_timestamp(now);
    }
}

impl Drop for Traces {
    /// What has not been sent is sent, as far as the collector takes it at once.
    fn drop(&mut self) {
        if let Some(Collector { provider, .. }) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(TIMEOUT_AT_THE_END)
        {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Traces" } else { "none" })
    }
}

fn client() -> reqwest::Result<reqwest::blocking::Client> {
    reqwest::blocking::Client::builder()
        .timeout(TIMEOUT)
        // Its headers can have a secret.
        .redirect(Policy::none())
        .build()
}

/// The client that comes with the exporter is another version of the one that is here already.
#[derive(Debug)]
struct Blocking {
    client: reqwest::blocking::Client,
    endpoint: String,
    /// The last batch was not taken, and it was said so.
    failing: AtomicBool,
}

impl Blocking {
    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.client.execute(request.try_into()?)?;
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            headers.clone_from(answer.headers());
        }
        Ok(response.body(answer.bytes()?)?)
    }

    fn note(&self, trouble: Option<&str>) {
        let endpoint = &self.endpoint;
        match (self.failing.swap(trouble.is_some(), Relaxed), trouble) {
            (false, Some(trouble)) => tracing::warn!(
                endpoint,
                trouble,
                "spans cannot be sent, and are dropped until they can"
            ),
            (true, None) => tracing::info!(endpoint, "spans are sent again"),
            _ => {}
        }
    }
}

/// The client itself tells no more than that the request failed.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(Some(error), |&error| error.source());
    causes.last().map_or_else(String::new, ToString::to_string)
}

#[async_trait::async_trait]
impl HttpClient for Blocking {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.send(request);
        match &sent {
            Ok(response) if response.status().is_success() => self.note(None),
            Ok(response) => self.note(Some(response.status().as_str())),
            Err(error) => self.note(Some(&innermost(error.as_ref()))),
        }
        sent
    }
}
