//! What is asked of Elasticsearch: JSON requests, and raw bulk requests for the replay.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};

/// A node. Clones share connections.
#[derive(Debug, Clone)]
pub struct Elasticsearch {
    url: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Elasticsearch {
    /// No connection is opened yet.
    pub fn new(url: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            url: url.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a request as it is, to its path on this node.
    ///
    /// # Errors
    /// No answer came.
    pub async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(hyper::http::response::Parts, Bytes)> {
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str());
        *request.uri_mut() = format!("{}{path}", self.url).parse()?;
        let (head, body) = self.client.request(request).await?.into_parts();
        Ok((head, body.collect().await?.to_bytes()))
    }

    /// A request with JSON, and the answer's JSON. `path` begins with a slash.
    ///
    /// # Errors
    /// No answer came, or one that is an error.
    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let (status, answer) = self.try_request(method.clone(), path, body).await?;
        ensure!(status.is_success(), "{method} {path}: {status} {answer}");
        Ok(answer)
    }

    /// As [`Self::request`]; an answer that is an error is handed back too.
    ///
    /// # Errors
    /// No answer came.
    pub async fn try_request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Value)> {
        let body = body
            .map(|body| Bytes::from(body.to_string()))
            .unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let (head, body) = self.send(request).await?;
        Ok((
            head.status,
            serde_json::from_slice(&body).unwrap_or(Value::Null),
        ))
    }

    /// One bulk request.
    ///
    /// # Errors
    /// It failed, or an operation in it did.
    pub async fn bulk(&self, index: &str, body: Bytes) -> Result<()> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/{index}/_bulk?filter_path=errors"))
            .header(header::CONTENT_TYPE, "application/x-ndjson")
            .body(Full::new(body))?;
        let (head, body) = self.send(request).await?;
        ensure!(
            head.status.is_success() && body.as_ref() == br#"{"errors":false}"#,
            "a bulk request failed: {} {}",
            head.status,
            String::from_utf8_lossy(&body[..body.len().min(1000)])
        );
        Ok(())
    }

    /// Number of documents, after a refresh.
    ///
    /// # Errors
    /// There is no such index.
    pub async fn count(&self, index: &str) -> Result<u64> {
        self.request(Method::POST, &format!("/{index}/_refresh"), None)
            .await?;
        let counted = self
            .request(Method::GET, &format!("/{index}/_count"), None)
            .await?;
        counted["count"].as_u64().context("no count")
    }

    /// Settings and mapping of an index, as [`Self::create`] takes them.
    ///
    /// # Errors
    /// There is no such index.
    pub async fn shape(&self, index: &str) -> Result<Value> {
        let found = self
            .request(Method::GET, &format!("/{index}?flat_settings=true"), None)
            .await?;
        let found = &found[index];
        let mut settings = found["settings"]
            .as_object()
            .context("no settings")?
            .clone();
        // What Elasticsearch gives an index itself cannot be given by us.
        settings.retain(|name, _| {
            let own = [
                "index.uuid",
                "index.creation_date",
                "index.provided_name",
                "index.version.",
            ];
            !own.iter().any(|own| name.starts_with(own))
        });
        Ok(json!({"settings": settings, "mappings": found["mappings"]}))
    }

    /// Makes an index of this shape.
    ///
    /// # Errors
    /// There is one of that name, or the request failed.
    pub async fn create(&self, index: &str, shape: &Value) -> Result<()> {
        self.request(Method::PUT, &format!("/{index}"), Some(shape.clone()))
            .await?;
        Ok(())
    }

    /// Makes the index `copy` with the settings and the mapping of `index`, without documents.
    ///
    /// # Errors
    /// A request failed.
    pub async fn create_like(&self, index: &str, copy: &str) -> Result<()> {
        self.create(copy, &self.shape(index).await?).await
    }

    /// Deletes an index, if there is one.
    ///
    /// # Errors
    /// The request failed.
    pub async fn delete(&self, index: &str) -> Result<()> {
        self.request(
            Method::DELETE,
            &format!("/{index}?ignore_unavailable=true"),
            None,
        )
        .await?;
        Ok(())
    }

    /// Removes what `sync-es` has made with `alias` (its data indices, its records and its template)
    /// and any index whose name begins with `alias`.
    ///
    /// # Errors
    /// A request failed.
    pub async fn clean(&self, alias: &str) -> Result<()> {
        let indices = self
            .request(
                Method::GET,
                &format!("/_cat/indices/{alias}*?format=json&expand_wildcards=all&h=index"),
                None,
            )
            .await?;
        for index in indices.as_array().into_iter().flatten() {
            let name = index["index"].as_str().context("an index without a name")?;
            self.request(Method::DELETE, &format!("/{name}"), None)
                .await?;
        }
        let templates = self
            .try_request(Method::GET, &format!("/_index_template/*{alias}*"), None)
            .await?
            .1;
        for template in templates["index_templates"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let name = template["name"]
                .as_str()
                .context("a template without a name")?;
            self.request(Method::DELETE, &format!("/_index_template/{name}"), None)
                .await?;
        }
        Ok(())
    }

    /// Processor time that the node has used since its start.
    ///
    /// # Errors
    /// It does not say.
    pub async fn cpu(&self) -> Result<Duration> {
        let stats = self
            .request(
                Method::GET,
                "/_nodes/stats/process?filter_path=nodes.*.process.cpu.total_in_millis",
                None,
            )
            .await?;
        let nodes = stats["nodes"].as_object().context("no nodes")?;
        let milliseconds = nodes
            .values()
            .filter_map(|node| node["process"]["cpu"]["total_in_millis"].as_u64())
            .sum();
        Ok(Duration::from_millis(milliseconds))
    }
}
