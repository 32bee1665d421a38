//! All documents of an index as of one moment, page by page.
//!
//! A point in time with `_shard_doc` order reads each document once, without sorting and without
//! fielddata on `_id`. OpenSearch 2.19 has no such order: there one shard is read after the other, in
//! the order of `_seq_no`, which no two documents of a shard share. So a page can be asked for again
//! when its answer was lost. A page that some shard did not give is an error: what is missing from it
//! would pass for deleted.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{Client, Distribution, Error, Method, json as body, segment};

/// How long the point in time lives after a page was read. It holds segments on the server's disk.
const KEEP_ALIVE: &str = "5m";

/// A shard that is not there would be left out without a word, and with segment replication only a
/// primary has what was just refreshed.
const OPENSEARCH_PIT: [(&str, &str); 3] = [
    ("keep_alive", KEEP_ALIVE),
    ("allow_partial_pit_creation", "false"),
    ("preference", "_primary"),
];

/// What of the documents is wanted.
#[derive(Debug)]
pub(super) struct Scan {
    /// A query; all documents if `None`.
    pub(super) query: Option<Value>,
    /// The `_source` clause: `false`, or which fields.
    pub(super) source: Value,
    /// Documents a page.
    pub(super) size: u32,
}

/// Pages that are being read.
#[derive(Debug)]
pub(super) struct Pages {
    client: Client,
    distribution: Distribution,
    scan: Scan,
    /// `None` once it has been closed.
    pit: Option<String>,
    after: Option<Value>,
    /// The part that is read: on OpenSearch a shard, elsewhere all of it.
    shard: u32,
    /// Of so many.
    shards: u32,
}

/// A document of a page.
#[derive(Debug, Deserialize)]
pub(super) struct Hit<S> {
    #[serde(rename = "_id")]
    pub(super) id: String,
    #[serde(rename = "_version")]
    pub(super) version: u64,
    #[serde(rename = "_source")]
    pub(super) source: Option<S>,
    sort: Value,
}

impl Pages {
    /// Opens a point in time that shows everything acknowledged until now.
    pub(super) async fn open(
        client: &Client,
        distribution: Distribution,
        index: &str,
        scan: Scan,
    ) -> Result<Self, Error> {
        refresh(client, index).await?;
        let (path, query) = match distribution {
            Distribution::Elasticsearch => (
                format!("{}/_pit", segment(index)),
                &[("keep_alive", KEEP_ALIVE)][..],
            ),
            Distribution::OpenSearch => (
                format!("{}/_search/point_in_time", segment(index)),
                &OPENSEARCH_PIT[..],
            ),
        };
        let answer = client.request(Method::Post, &path, query, None).await?;
        let opened: Opened = answer.json()?;
        let shards = match (distribution, opened.shards) {
            (Distribution::Elasticsearch, _) => 1,
            (Distribution::OpenSearch, Some(shards)) if shards.successful == shards.total => {
                shards.total
            }
            (Distribution::OpenSearch, _) => {
                return Err(Error::Malformed(format!(
                    "a point in time of {index} with only a part of the shards"
                )));
            }
        };
        Ok(Self {
            client: client.clone(),
            distribution,
            scan,
            pit: Some(opened.id),
            after: None,
            shard: 0,
            shards,
        })
    }

    /// The next page; `None` at the end, when the point in time has been closed. Given up before
    /// the end, it closes itself after [`KEEP_ALIVE`].
    pub(super) async fn next<S: DeserializeOwned>(&mut self) -> Result<Option<Vec<Hit<S>>>, Error> {
        while let Some(pit) = self.pit.clone() {
            let (hits, pit) = self.page(pit).await?;
            if let Some(last) = hits.last() {
                self.after = Some(last.sort.clone());
                self.pit = Some(pit);
                return Ok(Some(hits));
            }
            if self.shard + 1 < self.shards {
                (self.shard, self.after, self.pit) = (self.shard + 1, None, Some(pit));
            } else {
                self.close(&pit).await;
            }
        }
        Ok(None)
    }

    /// The page behind the last one, and the point in time's new name.
    async fn page<S: DeserializeOwned>(&self, pit: String) -> Result<(Vec<Hit<S>>, String), Error> {
        let query = [
            (
                "filter_path",
                "pit_id,timed_out,_shards.failed,hits.hits._id,hits.hits._version,\
                 hits.hits.sort,hits.hits._source",
            ),
            ("allow_partial_search_results", "false"),
        ];
        let search = self.search(&pit);
        let answer = self
            .client
            .request(Method::Post, "_search", &query, Some(body(&search)))
            .await?;
        let page: Page<S> = answer.json()?;
        if page.timed_out || page.shards.failed > 0 {
            return Err(Error::Malformed(
                "a page of documents from only a part of the shards".to_owned(),
            ));
        }
        let hits = page.hits.map(|hits| hits.hits).unwrap_or_default();
        Ok((hits, page.pit_id.unwrap_or(pit)))
    }

    fn search(&self, pit: &str) -> Value {
        let mut search = Map::new();
        search.insert("size".to_owned(), self.scan.size.into());
        search.insert(
            "pit".to_owned(),
            json!({"id": pit, "keep_alive": KEEP_ALIVE}),
        );
        let order = match self.distribution {
            Distribution::Elasticsearch => "_shard_doc",
            Distribution::OpenSearch => "_seq_no",
        };
        search.insert("sort".to_owned(), json!([order]));
        if self.shards > 1 {
            // As many slices as shards: each slice is a shard.
            let slice = json!({"id": self.shard, "max": self.shards});
            search.insert("slice".to_owned(), slice);
        }
        search.insert("version".to_owned(), true.into());
        search.insert("track_total_hits".to_owned(), false.into());
        search.insert("_source".to_owned(), self.scan.source.clone());
        if let Some(query) = &self.scan.query {
            search.insert("query".to_owned(), query.clone());
        }
        if let Some(after) = &self.after {
            search.insert("search_after".to_owned(), after.clone());
        }
        search.into()
    }

    async fn close(&mut self, pit: &str) {
        self.pit = None;
        let (path, request) = match self.distribution {
            Distribution::Elasticsearch => ("_pit", json!({"id": pit})),
            Distribution::OpenSearch => ("_search/point_in_time", json!({"pit_id": [pit]})),
        };
        let closed = self
            .client
            .request(Method::Delete, path, &[], Some(body(&request)))
            .await;
        if let Err(error) = closed {
            tracing::debug!(%error, "a point in time was not closed; it ends by itself");
        }
    }
}

/// Makes everything acknowledged until now visible to searches.
pub(super) async fn refresh(client: &Client, index: &str) -> Result<(), Error> {
    let path = format!("{}/_refresh", segment(index));
    let answer = client.request(Method::Post, &path, &[], None).await?;
    let refreshed: Refreshed = answer.json()?;
    if refreshed.shards.failed > 0 {
        return Err(Error::Malformed(format!("{index} was refreshed in part")));
    }
    Ok(())
}

/// The shards that did not take part.
#[derive(Debug, Deserialize)]
pub(super) struct Shards {
    pub(super) failed: u32,
}

#[derive(Deserialize)]
struct Refreshed {
    #[serde(rename = "_shards")]
    shards: Shards,
}

#[derive(Deserialize)]
struct Opened {
    #[serde(alias = "pit_id")]
    id: String,
    #[serde(rename = "_shards")]
    shards: Option<ShardCount>,
}

#[derive(Deserialize)]
struct ShardCount {
    total: u32,
    successful: u32,
}

#[derive(Deserialize)]
struct Page<S> {
    pit_id: Option<String>,
    timed_out: bool,
    #[serde(rename = "_shards")]
    shards: Shards,
    /// Absent from a filtered answer without hits.
    hits: Option<Hits<S>>,
}

#[derive(Deserialize)]
struct Hits<S> {
    hits: Vec<Hit<S>>,
}
