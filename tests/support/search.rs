//! What Elasticsearch holds, asked through the official client.

use std::time::{Duration, Instant};

use elasticsearch::{
    BulkParts, Elasticsearch,
    http::{Method, Url, headers::HeaderMap, response::Response, transport::Transport},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::DEADLINE;

/// Documents of a page when a whole index is read.
const PAGE: usize = 500;
/// Before a question is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// A client, with the few questions that tests ask.
pub(crate) struct Search {
    /// The official client, for what the helpers below do not ask.
    pub(crate) client: Elasticsearch,
    /// Whether `_source` leaves vectors out unless they are asked for (Elasticsearch 9.2 and newer).
    hides_vectors: bool,
    is_opensearch: bool,
}

/// A document as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) version: u64,
    pub(crate) source: Value,
}

/// A document of a page, its `_source` in the bytes that Elasticsearch sent.
#[derive(Deserialize)]
pub(crate) struct Hit<'a> {
    #[serde(rename = "_id")]
    pub(crate) id: String,
    #[serde(rename = "_version")]
    pub(crate) version: u64,
    #[serde(rename = "_source", borrow)]
    pub(crate) source: &'a RawValue,
    sort: Value,
}

#[derive(Deserialize)]
struct Scrolled<'a> {
    #[serde(rename = "_scroll_id")]
    scroll_id: String,
    #[serde(borrow)]
    hits: Hits<'a>,
}

#[derive(Deserialize)]
struct Page<'a> {
    pit_id: String,
    #[serde(borrow)]
    hits: Hits<'a>,
}

#[derive(Deserialize)]
struct Hits<'a> {
    #[serde(borrow)]
    hits: Vec<Hit<'a>>,
}

impl Search {
    pub(crate) async fn connect(url: &Url) -> Self {
        let client = Elasticsearch::new(Transport::single_node(url.as_str()).unwrap());
        let mut search = Self {
            client,
            hides_vectors: false,
            is_opensearch: false,
        };
        let about = search.must(Method::Get, "/", None).await;
        let number = about["version"]["number"].as_str().unwrap();
        let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap());
        let version = (parts.next().unwrap(), parts.next().unwrap());
        search.is_opensearch = about["version"]["distribution"] == "opensearch";
        search.hides_vectors = !search.is_opensearch && version >= (9, 2);
        search
    }

    /// Any request: status and body.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let (status, bytes) = self.raw(method, path, body).await;
        (
            status,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        )
    }

    /// A request that must succeed.
    pub(crate) async fn must(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.ask(method, path, body).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    /// The documents with these ids, in their order, as the next write would find them: not as the
    /// last refresh left them. Waits while a shard is not there, as after a restart.
    pub(crate) async fn stored(
        &self,
        index: &str,
        ids: &[&str],
        source: bool,
    ) -> Vec<Option<Stored>> {
        let fields = if source { "true" } else { "false" };
        self.stored_fields(index, ids, fields).await
    }

    /// [`Self::stored`] with some fields of `_source`: names with commas, `true` or `false`.
    pub(crate) async fn stored_fields(
        &self,
        index: &str,
        ids: &[&str],
        source: &str,
    ) -> Vec<Option<Stored>> {
        let path = format!("/{index}/_mget?_source={source}");
        let body = json!({ "ids": ids });
        let start = Instant::now();
        loop {
            let (status, answer) = self.ask(Method::Post, &path, Some(body.clone())).await;
            match (status, answer["docs"].as_array()) {
                (200, Some(documents)) => {
                    if let Some(all) = documents.iter().map(stored).collect() {
                        return all;
                    }
                }
                (404, _) => return vec![None; ids.len()],
                _ => {}
            }
            assert!(start.elapsed() < DEADLINE, "{path}: {status} {answer}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One document; none when it, or the index, is not there.
    pub(crate) async fn document(&self, index: &str, id: &str) -> Option<Value> {
        let stored = self.stored(index, &[id], true).await.pop().flatten();
        stored.map(|stored| stored.source)
    }

    /// How many documents a search would find; none when there is no such index or alias.
    pub(crate) async fn count(&self, index: &str) -> Option<u64> {
        let refreshed = self
            .ask(Method::Post, &format!("/{index}/_refresh"), None)
            .await;
        if refreshed.0 != 200 {
            return None;
        }
        let (_, answer) = self
            .ask(Method::Get, &format!("/{index}/_count"), None)
            .await;
        answer["count"].as_u64()
    }

    /// Attempts to write a document, refused ones included, since the index was made.
    pub(crate) async fn write_attempts(&self, index: &str) -> u64 {
        let path = format!("/{index}/_stats/indexing");
        let stats = self.must(Method::Get, &path, None).await;
        let indexing = &stats["_all"]["primaries"]["indexing"];
        indexing["index_total"].as_u64().unwrap() + indexing["index_failed"].as_u64().unwrap()
    }

    /// Documents deleted since the index was made.
    pub(crate) async fn deletes(&self, index: &str) -> u64 {
        let path = format!("/{index}/_stats/indexing");
        let stats = self.must(Method::Get, &path, None).await;
        let deletes = &stats["_all"]["primaries"]["indexing"]["delete_total"];
        deletes.as_u64().unwrap()
    }

    /// The concrete indices behind a name or an alias.
    pub(crate) async fn indices(&self, name: &str) -> Vec<String> {
        let (status, answer) = self
            .ask(Method::Get, &format!("/{name}/_alias"), None)
            .await;
        match (status, answer) {
            (200, Value::Object(indices)) => indices.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Hands every document of an index or alias, as of one moment, to `each`, page by page.
    pub(crate) async fn scan(&self, index: &str, mut each: impl AsyncFnMut(&[Hit<'_>])) {
        self.must(Method::Post, &format!("/{index}/_refresh"), None)
            .await;
        if self.is_opensearch {
            return self.scan_opensearch(index, each).await;
        }
        let open = format!("/{index}/_pit?keep_alive=5m");
        let opened = self.must(Method::Post, &open, None).await;
        let mut pit = opened["id"].as_str().unwrap().to_owned();
        let mut after = Value::Null;
        loop {
            let (status, bytes) = self
                .raw(Method::Post, "/_search", Some(self.page(&pit, &after)))
                .await;
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
            let page: Page<'_> = serde_json::from_slice(&bytes).unwrap();
            pit = page.pit_id;
            let Some(last) = page.hits.hits.last() else {
                break;
            };
            after = last.sort.clone();
            each(&page.hits.hits).await;
        }
        self.must(Method::Delete, "/_pit", Some(json!({ "id": pit })))
            .await;
    }

    /// By the scroll API: another way than the program's.
    async fn scan_opensearch(&self, index: &str, mut each: impl AsyncFnMut(&[Hit<'_>])) {
        let first = json!({ "size": PAGE, "version": true, "sort": ["_doc"] });
        let mut next = (format!("/{index}/_search?scroll=5m"), first);
        loop {
            let (status, bytes) = self.raw(Method::Post, &next.0, Some(next.1)).await;
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
            let page: Scrolled<'_> = serde_json::from_slice(&bytes).unwrap();
            let scroll = json!({ "scroll": "5m", "scroll_id": page.scroll_id });
            if page.hits.hits.is_empty() {
                self.must(
                    Method::Delete,
                    "/_search/scroll",
                    Some(json!({ "scroll_id": page.scroll_id })),
                )
                .await;
                break;
            }
            each(&page.hits.hits).await;
            next = ("/_search/scroll".to_owned(), scroll);
        }
    }

    fn page(&self, pit: &str, after: &Value) -> Value {
        let mut page = json!({
            "pit": { "id": pit, "keep_alive": "5m" },
            "size": PAGE,
            "version": true,
            "track_total_hits": false,
            "sort": ["_shard_doc"],
        });
        if self.hides_vectors {
            page["_source"] = json!({ "exclude_vectors": false });
        }
        if !after.is_null() {
            page["search_after"] = after.clone();
        }
        page
    }

    /// A bulk request of ready-made lines, of which every item must succeed.
    pub(crate) async fn bulk(&self, lines: String) {
        let response = self.send_bulk(lines).await.unwrap();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["errors"], false, "{answer}");
    }

    /// The answer to a bulk request of ready-made lines.
    pub(crate) async fn ask_bulk(&self, lines: String) -> Value {
        let response = self.send_bulk(lines).await.unwrap();
        response.json().await.unwrap()
    }

    /// The status of a bulk request's answer; none when there is no answer.
    pub(crate) async fn try_bulk(&self, lines: String) -> Option<u16> {
        let response = self.send_bulk(lines).await.ok()?;
        Some(response.status_code().as_u16())
    }

    async fn send_bulk(&self, lines: String) -> Result<Response, elasticsearch::Error> {
        let bulk = self.client.bulk(BulkParts::None);
        bulk.body(vec![lines]).send().await
    }

    /// Asks again where there is no answer: a test may have taken Elasticsearch down.
    async fn raw(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Vec<u8>) {
        let start = Instant::now();
        loop {
            match self.send(method, path, body.as_ref()).await {
                Ok(answer) => return answer,
                Err(error) if start.elapsed() > DEADLINE => panic!("{path}: {error}"),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Vec<u8>), elasticsearch::Error> {
        let response = self
            .client
            .send(
                method,
                path,
                HeaderMap::new(),
                Option::<&()>::None,
                body.map(ToString::to_string),
                Some(DEADLINE),
            )
            .await?;
        let status = response.status_code().as_u16();
        Ok((status, response.bytes().await?.to_vec()))
    }
}

/// A document of an `_mget`: none when its shard cannot be read now, `Some(None)` when it is not
/// there.
#[expect(clippy::option_option, reason = "not known, and known not to be there")]
fn stored(document: &Value) -> Option<Option<Stored>> {
    let error = &document["error"]["type"];
    if !error.is_null() && error != "index_not_found_exception" {
        return None;
    }
    Some((document["found"] == true).then(|| Stored {
        version: document["_version"].as_u64().unwrap(),
        source: document["_source"].clone(),
    }))
}
