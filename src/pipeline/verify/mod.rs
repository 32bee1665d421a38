//! Is every document its row's? The table and the index, compared while both are at work.
//!
//! Two walks: over the rows, each of whose documents is fetched by its id; and over the documents, each
//! of whose rows is looked up by its key. So neither needs the other's order of keys, which collations
//! make different, nor more memory than a page. What does not agree is only suspected, since a change can
//! be on its way; `settle.rs` decides. `repair.rs` mends.

mod repair;
mod report;
mod settle;

pub use report::{Difference, Kind, Report};

use std::{collections::HashMap, time::Duration};

use super::{
    Facts, Failure, Mode,
    comparison::Comparison,
    job::Job,
    plan::check_index,
    prepare,
    refill::{BYTES_TOGETHER, Together},
    survey,
    table::CurrentTable,
};
use crate::{
    change::{Key, Version},
    elasticsearch::{self, Index, Run, Runs},
    observe::progress::Progress,
    postgres::{
        self, Session,
        pages::{Pages, Range, is_key, random_keys, within},
    },
    stop::Stop,
};

/// Suspects that are decided together, at most: each time the stream is waited for once.
const SUSPECTS_TOGETHER: usize = 5_000;

/// What is compared.
#[derive(Debug, Clone)]
pub enum Keys {
    /// All of a range.
    In(Range),
    /// So many rows and so many documents, chosen at random; 10,000 at most.
    AtRandom(u32),
}

/// What is wanted of a verification.
#[derive(Debug, Clone)]
pub struct Verify {
    /// Which keys.
    pub what: Keys,
    /// Mend what differs.
    pub repair: bool,
    /// How long the stream may take to come past a comparison.
    pub patience: Duration,
    /// Differences that are kept in the report, at most.
    pub kept: usize,
}

/// Compares the job's table and index.
///
/// # Errors
/// One of the two cannot be read, they do not belong together, or the snapshot is not complete.
pub async fn verify(job: &Job, wanted: &Verify) -> Result<Report, Stop> {
    Box::pin(compare(job, wanted))
        .await
        .map_err(Failure::into_stop)
}

/// [`verify()`], for who tries again.
pub(super) async fn compare(job: &Job, wanted: &Verify) -> Result<Report, Failure> {
    let job = &job.at_work().await?;
    let subject = Subject::look(job).await?;
    let verification = Verification {
        subject: &subject,
        wanted,
        comparison: subject.comparison().await,
        report: Report {
            index: job.names.index.clone(),
            ..Report::default()
        },
        suspects: Vec::new(),
    };
    let mut report = verification.carry_out().await?;
    if !report.differences.is_empty() {
        let uuid = &subject.run.index_uuid;
        let letters = prepare::dead_letters(job, &subject.server, uuid);
        let letters = letters.keys().await?;
        for difference in &mut report.differences {
            difference.dead_letter = letters.contains_key(&difference.key);
        }
    }
    Ok(report)
}

/// A table and the index that was filled from it.
pub(super) struct Subject<'a> {
    pub(super) job: &'a Job,
    session: Session,
    pub(super) server: elasticsearch::Server,
    facts: Facts,
    table: CurrentTable,
    runs: Runs,
    /// The run that filled the index last.
    pub(super) run: Run,
}

impl<'a> Subject<'a> {
    /// Looks whether table and index are there and belong together.
    ///
    /// # Errors
    /// They do not, one of the two cannot be read, or the snapshot is not complete.
    pub(super) async fn look(job: &'a Job) -> Result<Self, Failure> {
        let session = postgres::connect(&job.postgres).await?;
        let server = job.elasticsearch.ping().await?;
        let runs = prepare::runs(job);
        let run = latest(job, &runs).await?;
        let found = survey::index(job).await?;
        let facts = prepare::facts(job, &session.client, Some(run.clone()), found).await?;
        check_index(&facts)?;
        let uuid = facts.index.as_ref().map(|index| index.uuid.clone());
        if uuid.as_ref() != Some(&run.index_uuid) {
            return Err(Stop::IndexReplaced {
                index: job.names.index.clone(),
                state: "not the one that the latest run filled".to_owned(),
            }
            .into());
        }
        let there = job.on_the_server_of(&session);
        let table = prepare::table(&there, &facts, &server).await?;
        // With a setting that does not fit, every document would be told as different.
        survey::stop_unless_it_fits(job, &facts, &table, &server).await?;
        Ok(Self {
            job,
            session,
            server,
            facts,
            table,
            runs,
            run,
        })
    }

    /// The two, to be held against each other.
    pub(super) async fn comparison(&self) -> Comparison<'_> {
        Comparison {
            session: &self.session,
            look: self.table.look().await,
            index: Index::new(&self.job.elasticsearch, &self.job.names.index),
            server: self.server.clone(),
            retry: self.job.retry,
        }
    }
}

/// The run that filled the index last.
async fn latest(job: &Job, runs: &Runs) -> Result<Run, Failure> {
    let index = &job.names.index;
    let streaming = runs.latest_of(true).await?;
    let one_shot = runs.latest_of(false).await?;
    let latest = streaming
        .into_iter()
        .chain(one_shot)
        .max_by_key(|run| run.number);
    let run = latest.ok_or_else(|| {
        Stop::Settings(format!(
            "no run has filled index {index:?}: name the index in ELASTICSEARCH_INDEX_NAME and its alias in ELASTICSEARCH_INDEX_ALIAS, as for `sync-es run`"
        ))
    })?;
    if !run.sync_finished {
        let rows = run.n_input_records;
        return Err(Stop::Settings(format!(
            "the snapshot into index {index:?} is not complete ({rows} rows so far): let `sync-es run` end it first"
        ))
        .into());
    }
    Ok(run)
}

/// A verification under way.
struct Verification<'a> {
    subject: &'a Subject<'a>,
    wanted: &'a Verify,
    comparison: Comparison<'a>,
    report: Report,
    suspects: Vec<Key>,
}

impl Verification<'_> {
    async fn carry_out(mut self) -> Result<Report, Failure> {
        match self.wanted.what.clone() {
            Keys::In(range) => {
                self.try_ends(&range).await?;
                self.rows(&range).await?;
                self.documents(&range).await?;
            }
            Keys::AtRandom(count) => self.at_random(count).await?,
        }
        self.settle().await?;
        Ok(self.report)
    }

    /// Whether changes come through a stream, which can be waited for.
    fn streams(&self) -> bool {
        self.subject.job.mode == Mode::Continuous && self.subject.run.slot.is_some()
    }

    async fn try_ends(&self, range: &Range) -> Result<(), Failure> {
        let Comparison { session, look, .. } = &self.comparison;
        for (end, argument) in [(&range.from, "--from"), (&range.to, "--to")] {
            if let Some(key) = end
                && !is_key(&session.client, &look.query, key).await?
            {
                let (column, key_type) = (&self.subject.job.names.key, look.query.key_type());
                let why = format!("{argument} {key} is no value of {column}, which is {key_type}");
                return Err(Stop::Settings(why).into());
            }
        }
        Ok(())
    }

    /// Every row has its document.
    async fn rows(&mut self, range: &Range) -> Result<(), Failure> {
        let (client, look) = (
            &self.comparison.session.client,
            self.comparison.look.clone(),
        );
        let mut pages = Pages::new(client, &look.query, range.clone());
        let mut together = Together::default();
        let mut progress = Progress::start("verify", look.table.estimated_rows, 0);
        let mut page = pages.next(together.rows(), BYTES_TOGETHER).await?;
        while !page.is_empty() {
            together.came(page.len(), page.iter().map(|row| row.bytes.len()).sum());
            // The next rows are read while these documents are.
            let (suspected, next) = tokio::join!(
                self.comparison.suspects_among(&page),
                pages.next(together.rows(), BYTES_TOGETHER)
            );
            self.suspects.extend(suspected?);
            self.report.rows += page.len() as u64;
            progress.advance(page.len() as u64);
            page = next?;
            if self.suspects.len() >= SUSPECTS_TOGETHER {
                self.settle().await?;
            }
        }
        progress.finish(true);
        Ok(())
    }

    /// Every document has its row.
    async fn documents(&mut self, range: &Range) -> Result<(), Failure> {
        let Comparison { index, server, .. } = &self.comparison;
        let mut documents = index.documents(server.distribution, None).await?;
        let mut bound = self.subject.bound().await?;
        while let Some(page) = documents.next().await? {
            self.report.documents += page.len() as u64;
            let foreign = self.above(&mut bound, &page, range).await?;
            self.report.add_foreign(foreign);
            let keys = page.into_iter().map(|(key, _)| key).collect();
            let without = self.without_row(keys, range).await?;
            self.suspects.extend(without);
            if self.suspects.len() >= SUSPECTS_TOGETHER {
                self.settle().await?;
            }
        }
        Ok(())
    }

    /// Those of the documents in the range whose version no commit until now has given. `bound` is what the
    /// commits had given that were known before.
    async fn above(
        &self,
        bound: &mut Version,
        page: &[(Key, Version)],
        range: &Range,
    ) -> Result<Vec<(Key, Version)>, Failure> {
        if page.iter().all(|(_, version)| version <= bound) {
            return Ok(Vec::new());
        }
        // The stream goes on meanwhile.
        *bound = self.subject.bound().await?;
        let above = page.iter().filter(|(_, version)| version > bound);
        let above: HashMap<&Key, Version> = above.map(|(key, version)| (key, *version)).collect();
        let Comparison { session, look, .. } = &self.comparison;
        let keys = above.keys().map(|key| (*key).clone()).collect();
        let inside = within(&session.client, &look.query, range, keys).await?;
        let versions = inside.into_iter().filter_map(|key| {
            let version = *above.get(&key)?;
            Some((key, version))
        });
        Ok(versions.collect())
    }

    /// Those of the keys in the range that no row has.
    async fn without_row(&self, keys: Vec<Key>, range: &Range) -> Result<Vec<Key>, Failure> {
        let keys = self.comparison.without_row(keys).await?;
        if keys.is_empty() {
            return Ok(keys);
        }
        let Comparison { session, look, .. } = &self.comparison;
        Ok(within(&session.client, &look.query, range, keys).await?)
    }

    /// Some rows and some documents.
    async fn at_random(&mut self, count: u32) -> Result<(), Failure> {
        let (client, look) = (
            &self.comparison.session.client,
            self.comparison.look.clone(),
        );
        let estimated = look.table.estimated_rows;
        let mut keys = random_keys(client, &look.query, count, estimated).await?;
        self.report.rows = keys.len() as u64;
        let ids = self.comparison.index.random_ids(count).await?;
        self.report.documents = ids.len() as u64;
        keys.extend(ids);
        keys.sort_unstable();
        keys.dedup();
        let pairs = self.comparison.pairs(&keys).await?;
        let differ = pairs
            .into_iter()
            .filter(|(_, pair)| pair.difference.is_some());
        self.suspects.extend(differ.map(|(key, _)| key));
        Ok(())
    }
}
