//! Spans for OpenTelemetry, where a collector is named: what the metrics count, one by one.
//!
//! Everything that becomes a span is told when it has ended, with how long it took, so no task carries
//! a context, and nothing is done where no collector is named. Spans are sent from a thread of their own
//! (OTLP over HTTP), in batches; those that a slow collector does not take are dropped, never waited for.

use std::{
    fmt,
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
use url::Url;

use super::{
    metrics::{Outcome, Sent},
    status::Phase,
};

/// How long the collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);

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
        let client = std::thread::spawn(|| {
            reqwest::blocking::Client::builder()
                .timeout(TIMEOUT)
                .build()
        });
        let client = client
            .join()
            .map_err(|_| refused("no thread".to_owned()))?
            .map_err(|error| refused(error.to_string()))?;
        let base = endpoint.as_str().trim_end_matches('/');
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Blocking(client))
            .with_endpoint(format!("{base}/v1/traces"))
            .build()
            .map_err(|error| refused(error.to_string()))?;
        // What OTEL_RESOURCE_ATTRIBUTES says comes first.
        let resource = Resource::builder_empty()
            .with_service_name("sync-es")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_detector(Box::new(EnvResourceDetector::new()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
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
    /// What has not been sent is sent, as far as the collector takes it in time.
    fn drop(&mut self) {
        if let Some(Collector { provider, .. }) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(TIMEOUT)
        {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Traces" } else { "none" })
    }
}

/// The client that comes with the exporter is another version of the one that is here already.
#[derive(Debug)]
struct Blocking(reqwest::blocking::Client);

#[async_trait::async_trait]
impl HttpClient for Blocking {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.0.execute(request.try_into()?)?;
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            headers.clone_from(answer.headers());
        }
        Ok(response.body(answer.bytes()?)?)
    }
}
