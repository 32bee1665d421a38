//! A sink in front of Elasticsearch: bulk requests to the data indices are acknowledged at once and
//! thrown away (or kept, to be replayed), all else goes through, so that templates, indices and the
//! records of `sync-es` are real.
//!
//! It runs in this process, so [`crate::process::own_cpu`] over a run is what it costs. A body is
//! counted as it comes, chunk by chunk, and is never held as a whole unless it is kept.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    elasticsearch::Elasticsearch,
    operations::{Counter, Operations},
};

/// The sink; it ends when dropped.
#[derive(Debug)]
pub struct Sink {
    url: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    elasticsearch: Elasticsearch,
    /// `/` and how the data indices' names begin.
    prefix: String,
    operations: AtomicU64,
    requests: AtomicU64,
    kept: Option<Mutex<Vec<Bytes>>>,
}

impl Sink {
    /// Listens on a port of its own. Bulk requests to an index whose name begins with `prefix` are
    /// swallowed, and kept if asked for; the rest goes to `elasticsearch`.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start(elasticsearch: &Elasticsearch, prefix: &str, keep: bool) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            elasticsearch: elasticsearch.clone(),
            prefix: format!("/{prefix}"),
            operations: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            kept: keep.then(Mutex::default),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self {
            url,
            shared,
            accepting,
        })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Operations swallowed until now.
    pub fn operations(&self) -> u64 {
        self.shared.operations.load(Ordering::Relaxed)
    }

    /// Bulk requests swallowed until now.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Hands over what was kept, in the order in which it came.
    pub fn take_kept(&self) -> Operations {
        let kept =
            self.shared.kept.as_ref().map(|kept| {
                std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner))
            });
        Operations::new(kept.unwrap_or_default())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, say: the client will try again.
            tokio::task::yield_now().await;
            continue;
        };
        // A delayed answer would be taken for our own time.
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(shared.clone(), request));
            // It ends with an error when the client is killed, which is meant.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let swallowed = request.method() == Method::POST
        && path.starts_with(&shared.prefix)
        && path.ends_with("/_bulk");
    let answered = if swallowed {
        swallow(&shared, request).await
    } else {
        pass(&shared.elasticsearch, request).await
    };
    Ok(answered.unwrap_or_else(|error| {
        let mut response = Response::new(Full::from(error.to_string()));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    }))
}

async fn swallow(shared: &Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let mut body = request.into_body();
    let mut counter = Counter::default();
    let size = usize::try_from(body.size_hint().lower())?;
    let mut kept = shared.kept.as_ref().map(|_| BytesMut::with_capacity(size));
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame?.into_data() else {
            continue;
        };
        counter.add(&chunk);
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&chunk);
        }
    }
    if let (Some(all), Some(kept)) = (&shared.kept, kept) {
        all.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(kept.freeze());
    }
    shared
        .operations
        .fetch_add(counter.operations(), Ordering::Relaxed);
    shared.requests.fetch_add(1, Ordering::Relaxed);
    Ok(json(acknowledgement(usize::try_from(
        counter.operations(),
    )?)))
}

/// What Elasticsearch says of that many new documents, cut by the `filter_path` of `sync-es`.
fn acknowledgement(operations: usize) -> Bytes {
    const ITEM: &str = r#"{"index":{"status":201}}"#;
    let items = vec![ITEM; operations].join(",");
    Bytes::from(format!(r#"{{"errors":false,"items":[{items}]}}"#))
}

fn json(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    // The official clients look for it.
    headers.insert(
        "x-elastic-product",
        HeaderValue::from_static("Elasticsearch"),
    );
    response
}

async fn pass(
    elasticsearch: &Elasticsearch,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    for own in [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
    ] {
        head.headers.remove(own);
    }
    let (mut head, body) = elasticsearch
        .send(Request::from_parts(head, Full::new(body)))
        .await?;
    for own in [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
    ] {
        head.headers.remove(own);
    }
    Ok(Response::from_parts(head, Full::new(body)))
}
