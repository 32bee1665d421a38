//! The admin address: `/metrics`, `/status`, `/healthz`, `/readyz`, and a page at `/`. It answers GET
//! and HEAD, changes nothing, and tells no row and no secret; a dead letter's reason, which can quote
//! a document, is not in it either.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::{exposition, meter::Meter};

/// Connections that are answered at once; more wait.
const CONNECTIONS_MAX: usize = 32;
/// How long somebody may take to say what they want.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two marks of the throughput.
const MARK_INTERVAL: Duration = Duration::from_secs(5);

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const PAGE: &str = include_str!("page.html");

/// An address that is listened on, and not answered yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
}

impl Admin {
    /// Takes `address`, `host:port`; port 0 is any that is free.
    ///
    /// # Errors
    /// It is taken, or is none of this machine.
    pub async fn bind(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until it is dropped, with what `meter` knows.
    pub async fn serve(self, meter: Arc<Meter>) -> Infallible {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut marks = tokio::time::interval(MARK_INTERVAL);
        loop {
            // Room first: who comes beyond it waits in the system's queue, which is bounded.
            let connection = async {
                // Acquiring fails only on a closed semaphore, and this one is never closed.
                let permit = room.clone().acquire_owned().await.ok();
                (permit, self.listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                _ = marks.tick() => {
                    meter.mark();
                    continue;
                }
                connection = connection => connection,
            };
            match accepted {
                Ok((stream, _)) => {
                    let meter = meter.clone();
                    tokio::spawn(async move {
                        let _permit = permit;
                        converse(stream, meter).await;
                    });
                }
                Err(error) => {
                    // Such as too many open files, which pass.
                    tracing::debug!(%error, "the admin address takes no connection now");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

async fn converse(stream: TcpStream, meter: Arc<Meter>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let response = respond(&request, &meter);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the admin address broke");
    }
}

fn respond(request: &Request<Incoming>, meter: &Meter) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return response(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "GET or HEAD\n".to_owned(),
        );
    }
    match request.uri().path() {
        "/" => response(StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned()),
        "/metrics" => match exposition::text(meter) {
            Ok(text) => response(StatusCode::OK, exposition::CONTENT_TYPE, text),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
        },
        "/status" => match serde_json::to_string(&meter.status()) {
            Ok(text) => response(StatusCode::OK, JSON, text),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
        },
        "/healthz" => {
            let wedged = meter.is_wedged();
            verdict(!wedged, &json!({"healthy": !wedged}))
        }
        "/readyz" => {
            let status = meter.status();
            let why = json!({
                "ready": status.ready,
                "phase": status.phase,
                "not_ready": status.not_ready,
            });
            verdict(status.ready, &why)
        }
        _ => {
            let there = "/ /metrics /status /healthz /readyz\n";
            response(StatusCode::NOT_FOUND, TEXT, there.to_owned())
        }
    }
}

fn verdict(good: bool, why: &serde_json::Value) -> Response<Full<Bytes>> {
    let status = if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    response(status, JSON, why.to_string())
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let value = header::HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, value(content_type));
    headers.insert(header::CACHE_CONTROL, value("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, value("nosniff"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        value("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"),
    );
    response
}
