//! Run metadata: one document a run; the runs into a generation of the index are numbered, and
//! resume is resolved from the one with the highest number (numbers, since a clock can jump).
//!
//! Only one instance may write into a generation. Whoever starts first writes into the last run's
//! document ([`Runs::take_over`]), so that an instance which still writes there fails at its next save
//! (`if_seq_no`), and then makes the document of the next number, which only one can. An LSN may be
//! confirmed to PostgreSQL after [`RunWriter::save`] has returned, never before.
//!
//! A save whose answer was lost looks like another's write. Each save therefore leaves the writer's
//! token in the document, and one that meets its own goes on from there.

use std::hash::{BuildHasher, RandomState};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    super::{Client, Distribution, Error, Method, json as body, pages::refresh, segment},
    RecordsError, Run, prepare,
    run::properties,
};
use crate::change::Lsn;

/// How often a write meets another version of its document before it gives up: saves of its own
/// that were late, or, when a run is taken over, those of an instance that is still at work.
const CONFLICTS_MAX: u32 = 20;

/// The runs into one generation.
#[derive(Debug, Clone)]
pub struct Runs {
    client: Client,
    index: String,
    generation: String,
}

impl Runs {
    /// A handle on the runs in the metadata index `index` that write into the index `generation`;
    /// nothing is asked yet.
    #[must_use]
    pub fn new(client: &Client, index: &str, generation: &str) -> Self {
        Self {
            client: client.clone(),
            index: index.to_owned(),
            generation: generation.to_owned(),
        }
    }

    /// Makes the metadata index if it is missing.
    ///
    /// # Errors
    /// The request failed, or the index that exists loses acknowledged writes in a crash.
    pub async fn prepare(&self, distribution: Distribution) -> Result<(), RecordsError> {
        prepare(&self.client, distribution, &self.index, properties()).await
    }

    /// The run with the highest number, whoever writes it; `None` also without a metadata index.
    ///
    /// # Errors
    /// The request failed, or the document cannot be read.
    pub async fn latest(&self) -> Result<Option<Run>, RecordsError> {
        match self.newest().await {
            Err(RecordsError::Request(error)) if error.is("index_not_found_exception") => Ok(None),
            newest => Ok(newest?.map(|found| found.saved.run)),
        }
    }

    /// Takes the latest run over: whoever still writes it is fenced from now on. Gives the run as
    /// it stands then, and the writer of the next.
    ///
    /// # Errors
    /// The request failed; [`RecordsError::Fenced`] when others go on writing or take over too.
    pub async fn take_over(&self) -> Result<(RunWriter, Option<Run>), RecordsError> {
        let token = random_token();
        let latest = match self.newest().await? {
            Some(found) => Some(self.fence(found, &token).await?),
            None => None,
        };
        let writer = RunWriter {
            number: latest.as_ref().map_or(1, |run| run.number + 1),
            runs: self.clone(),
            token,
            seq_no: None,
            acknowledged: None,
        };
        Ok((writer, latest))
    }

    /// Writes the run's document again, as it is, under our token.
    async fn fence(&self, mut found: Found, token: &str) -> Result<Run, RecordsError> {
        let number = found.saved.run.number;
        for _ in 0..CONFLICTS_MAX {
            token.clone_into(&mut found.saved.writer);
            match self.put(&found.saved, Some(found.seq_no)).await {
                Ok(_) => return Ok(found.saved.run),
                Err(error) if error.is(CONFLICT) => {}
                Err(error) => return Err(error.into()),
            }
            found = self.get(number).await?;
            if found.saved.writer == token {
                return Ok(found.saved.run);
            }
        }
        Err(self.fenced(number))
    }

    /// Enters in a run that is over why the next one did not begin. Its writer stays who it was.
    ///
    /// # Errors
    /// The request failed, the document cannot be read, or somebody else has just written it.
    pub async fn note_stop(&self, number: u64, stop: &str) -> Result<(), RecordsError> {
        let Found { seq_no, mut saved } = self.get(number).await?;
        saved.run.error = Some(stop.to_owned());
        saved.run.finished_at = Some(Timestamp::now());
        saved.run.updated_at = Timestamp::now();
        self.put(&saved, Some(seq_no)).await?;
        Ok(())
    }

    /// The latest run that streams from a slot, or the latest one-shot run.
    ///
    /// # Errors
    /// The request failed, or the document cannot be read.
    pub async fn latest_of(&self, streams: bool) -> Result<Option<Run>, RecordsError> {
        let occurs = if streams { "filter" } else { "must_not" };
        let query = json!({"bool": {occurs: [{"exists": {"field": "slot"}}]}});
        match self.newest_of(&query).await {
            Err(RecordsError::Request(error)) if error.is("index_not_found_exception") => Ok(None),
            newest => Ok(newest?.map(|found| found.saved.run)),
        }
    }

    /// Forgets all of them, the latest last.
    ///
    /// # Errors
    /// A request failed, or a document cannot be read.
    pub async fn forget(&self) -> Result<(), RecordsError> {
        const TOGETHER: u32 = 500;
        loop {
            refresh(&self.client, &self.index).await?;
            let found = self.search(&json!({"match_all": {}}), TOGETHER).await?;
            if found.is_empty() {
                return Ok(());
            }
            for run in found.iter().rev() {
                let id = self.id(run.saved.run.number);
                let path = format!("{}/_doc/{}", segment(&self.index), segment(&id));
                self.client
                    .request(Method::Delete, &path, &[], None)
                    .await?;
            }
        }
    }

    async fn newest(&self) -> Result<Option<Found>, RecordsError> {
        self.newest_of(&json!({"match_all": {}})).await
    }

    async fn newest_of(&self, query: &Value) -> Result<Option<Found>, RecordsError> {
        refresh(&self.client, &self.index).await?;
        Ok(self.search(query, 1).await?.into_iter().next())
    }

    /// The latest runs, the last one first; none also without an index. Nothing is refreshed for it,
    /// so a run of this second may be missing; the latest is as it was stored last.
    ///
    /// # Errors
    /// The request failed, or a document cannot be read.
    pub async fn history(&self, count: u32) -> Result<Vec<Run>, RecordsError> {
        let mut found = match self.search(&json!({"match_all": {}}), count).await {
            Err(RecordsError::Request(error)) if error.is("index_not_found_exception") => {
                return Ok(Vec::new());
            }
            found => found?,
        };
        if let Some(latest) = found.first_mut() {
            *latest = self.get(latest.saved.run.number).await?;
        }
        Ok(found.into_iter().map(|found| found.saved.run).collect())
    }

    async fn search(&self, query: &Value, size: u32) -> Result<Vec<Found>, RecordsError> {
        let path = format!("{}/_search", segment(&self.index));
        let whole = [("allow_partial_search_results", "false")];
        let search = json!({
            "size": size,
            "query": {"bool": {"filter": [self.of_generation(), query]}},
            "sort": [{"number": "desc"}],
            "seq_no_primary_term": true,
        });
        let answer = self
            .client
            .request(Method::Post, &path, &whole, Some(body(&search)))
            .await?;
        let page: Page = answer.json()?;
        let hits = page.hits.hits.into_iter();
        hits.map(|hit| hit.found(&self.index)).collect()
    }

    async fn get(&self, number: u64) -> Result<Found, RecordsError> {
        let path = format!(
            "{}/_doc/{}",
            segment(&self.index),
            segment(&self.id(number))
        );
        let answer = self.client.request(Method::Get, &path, &[], None).await?;
        if answer.status == 404 {
            return Err(RecordsError::Gone {
                index: self.index.clone(),
                run: number,
            });
        }
        answer.json::<Hit>()?.found(&self.index)
    }

    /// Writes a run's document: a new one, or over the version `expected`.
    async fn put(&self, saved: &Saved, expected: Option<SeqNo>) -> Result<SeqNo, Error> {
        let action = if expected.is_some() {
            "_doc"
        } else {
            "_create"
        };
        let id = self.id(saved.run.number);
        let path = format!("{}/{action}/{}", segment(&self.index), segment(&id));
        let expected = expected.map(|at| (at.seq_no.to_string(), at.primary_term.to_string()));
        let query = expected.as_ref().map(|(seq_no, primary_term)| {
            [
                ("if_seq_no", seq_no.as_str()),
                ("if_primary_term", primary_term.as_str()),
            ]
        });
        let query = query.as_ref().map_or(&[][..], |query| &query[..]);
        let request = Some(body(&json!(saved)));
        self.client
            .request(Method::Put, &path, query, request)
            .await?
            .json()
    }

    fn of_generation(&self) -> Value {
        json!({"term": {"output_es_index": self.generation}})
    }

    /// No name of an index has a colon.
    fn id(&self, number: u64) -> String {
        format!("{}:{number}", self.generation)
    }

    fn fenced(&self, run: u64) -> RecordsError {
        RecordsError::Fenced {
            index: self.index.clone(),
            run,
        }
    }
}

/// The only writer of a run's document.
#[derive(Debug)]
pub struct RunWriter {
    runs: Runs,
    number: u64,
    /// Tells this writer's saves from any other's.
    token: String,
    seq_no: Option<SeqNo>,
    acknowledged: Option<Lsn>,
}

impl RunWriter {
    /// The number of the run that this writer writes.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Stores the run. When this returns, its acknowledged LSN may be confirmed.
    ///
    /// # Errors
    /// [`RecordsError::Fenced`] and [`RecordsError::Gone`] are final. After any other error the
    /// run may or may not be stored; the next save finds out.
    ///
    /// # Panics
    /// The run has another number than this writer's, or a position behind one already stored.
    pub async fn save(&mut self, run: &Run) -> Result<(), RecordsError> {
        assert_eq!(run.number, self.number, "a run is saved by its own writer");
        assert!(
            run.acknowledged_lsn.is_none() || run.acknowledged_lsn >= self.acknowledged,
            "a position never goes back"
        );
        let saved = Saved {
            writer: self.token.clone(),
            run: run.clone(),
        };
        for _ in 0..CONFLICTS_MAX {
            match self.runs.put(&saved, self.seq_no).await {
                Ok(seq_no) => {
                    self.seq_no = Some(seq_no);
                    self.acknowledged = run.acknowledged_lsn.or(self.acknowledged);
                    return Ok(());
                }
                Err(error) if error.is(CONFLICT) => {}
                Err(error) => return Err(error.into()),
            }
            let found = self.runs.get(self.number).await?;
            if found.saved.writer != self.token {
                break;
            }
            // A save of ours, whose answer was lost.
            self.seq_no = Some(found.seq_no);
        }
        Err(self.runs.fenced(self.number))
    }
}

const CONFLICT: &str = "version_conflict_engine_exception";

/// A run as its document holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Saved {
    writer: String,
    #[serde(flatten)]
    run: Run,
}

/// A version of a document, as `if_seq_no` and `if_primary_term` ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct SeqNo {
    #[serde(rename = "_seq_no")]
    seq_no: u64,
    #[serde(rename = "_primary_term")]
    primary_term: u64,
}

#[derive(Debug)]
struct Found {
    seq_no: SeqNo,
    saved: Saved,
}

/// A document as Elasticsearch gives it, of which nothing is believed yet.
#[derive(Deserialize)]
struct Hit {
    #[serde(flatten)]
    seq_no: SeqNo,
    #[serde(rename = "_source")]
    source: Map<String, Value>,
}

impl Hit {
    /// The run that it holds. A field that is not known may change what the known ones mean, so a
    /// document with one is not a run that may be gone on with.
    fn found(self, index: &str) -> Result<Found, RecordsError> {
        let unreadable = |reason: String| RecordsError::Unreadable {
            index: index.to_owned(),
            reason,
        };
        let known = properties();
        if let Some(field) = self.source.keys().find(|&field| known.get(field).is_none()) {
            return Err(unreadable(format!("field {field:?} is not known")));
        }
        let saved = serde_json::from_value(Value::Object(self.source))
            .map_err(|error| unreadable(error.to_string()))?;
        Ok(Found {
            seq_no: self.seq_no,
            saved,
        })
    }
}

#[derive(Deserialize)]
struct Page {
    hits: Hits,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Hit>,
}

/// Two keys of the standard library's hasher, which it takes from the system's randomness.
fn random_token() -> String {
    let random = || RandomState::new().hash_one(());
    format!("{:016x}{:016x}", random(), random())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{change::Coverage, elasticsearch::Phase};

    #[test]
    fn every_field_of_a_run_is_in_the_strict_mapping() {
        let fields = |value: Value| {
            let mut fields: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
            fields.sort();
            fields
        };
        assert_eq!(fields(json!(sample())), fields(properties()));
    }

    #[test]
    fn a_run_comes_back_from_its_document_exactly() {
        let saved = sample();
        let back: Saved = serde_json::from_str(&json!(saved).to_string()).unwrap();
        assert_eq!((back.run, back.writer), (saved.run, saved.writer));
    }

    #[test]
    fn no_two_writers_have_one_token() {
        let tokens: std::collections::HashSet<_> = (0..100).map(|_| random_token()).collect();
        assert_eq!(tokens.len(), 100);
    }

    fn sample() -> Saved {
        let now: Timestamp = "2026-11-24T23:33:00.123456789Z".parse().unwrap();
        let run = Run {
            number: 3,
            phase: Phase::Stream,
            input_postgres_table: "public.integrated_records".to_owned(),
            output_es_index: "integrated_records_v1".to_owned(),
            input_db_backend_config: Map::new(),
            output_db_backend_config: Map::new(),
            n_input_records: 10,
            n_output_records: 9,
            n_dead_letters: 1,
            last_synced_item: Some("ä\"\\".to_owned()),
            sync_finished: true,
            slot: Some("sync_es".to_owned()),
            consistent_point: Some(Lsn(0x15A_AD08)),
            snapshot_point: Some(Lsn(0x15A_AD08)),
            barrier_xmax: Some(1 << 62),
            acknowledged_lsn: Some(Lsn(0x16_B374_D848)),
            read_ahead_to: Some(Lsn(0x16_B3B4_D848)),
            system_identifier: "7436363636363636363".to_owned(),
            timeline: 1,
            index_uuid: "0OmasNCtSgCARt2xGW6SDA".to_owned(),
            relation_fingerprint: "f".to_owned(),
            storage: "2".to_owned(),
            coverage: Some(Coverage::default()),
            index_was_new: true,
            started_at: now,
            updated_at: now,
            finished_at: None,
            error: None,
            program_version: "0.1.0".to_owned(),
            host: "h".to_owned(),
        };
        Saved {
            writer: random_token(),
            run,
        }
    }
}
