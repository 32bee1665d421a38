//! What a person does with dead letters: read them, have them tried again, drop them.

use std::collections::HashSet;

use super::{Failure, comparison::Seen, job::Job, prepare, refill::Together, verify::Subject};
use crate::{
    change::{Key, Version},
    elasticsearch::{DeadLetter, DeadLetters, Index, LetterPages, RecordsError},
    stop::Stop,
};

/// What came of trying again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retried {
    /// Letters that were tried.
    pub tried: u64,
    /// Those of their keys that have a letter still: Elasticsearch has refused the document again, or the
    /// row changed meanwhile, and the stream brings it.
    pub left: u64,
    /// One of these.
    pub first_left: Option<Key>,
    /// Keys that were named and have no letter.
    pub unknown: Vec<Key>,
}

/// The letters of an index.
#[derive(Debug)]
pub struct Letters {
    /// Page by page.
    pub pages: LetterPages,
    /// The index that they stand in.
    pub index: String,
    /// The one that their documents were meant for.
    pub of: String,
}

/// The letters of the job's index.
///
/// # Errors
/// Elasticsearch cannot be asked, or there is no such index.
pub async fn dead_letters(job: &Job) -> Result<Letters, Stop> {
    let job = job.at_work().await.map_err(Failure::into_stop)?;
    let letters = of_index(&job).await.map_err(Failure::into_stop)?;
    Ok(Letters {
        pages: letters.letters().await.map_err(into_stop)?,
        index: letters.index().to_owned(),
        of: job.names.index,
    })
}

/// Removes letters; all of the job's index, or those of these keys. What Elasticsearch has of their
/// documents stays as it is.
///
/// # Errors
/// As for [`dead_letters`].
pub async fn purge_dead_letters(job: &Job, only: Option<&[Key]>) -> Result<u64, Stop> {
    let letters = handle(job).await.map_err(Failure::into_stop)?;
    purge(&letters, only).await.map_err(into_stop)
}

/// Removes letters, of these keys alone or all.
pub(super) async fn purge(
    letters: &DeadLetters,
    only: Option<&[Key]>,
) -> Result<u64, RecordsError> {
    let chosen = chosen(letters, only).await?;
    // One that is stored meanwhile is of a newer version and stays.
    let purged = chosen
        .iter()
        .map(|(key, version)| (key.clone(), Version(version.0 + 1)));
    let purged: Vec<_> = purged.collect();
    letters.clear(&purged).await?;
    Ok(purged.len() as u64)
}

/// Writes the documents of all letters, or of those of these keys, as their rows make them now, and
/// deletes those without a row. A letter goes when Elasticsearch takes that; otherwise it says why it was
/// refused this time.
///
/// # Errors
/// As for [`super::verify()`].
pub async fn retry_dead_letters(job: &Job, only: Option<&[Key]>) -> Result<Retried, Stop> {
    Box::pin(retry(job, only)).await.map_err(Failure::into_stop)
}

async fn retry(job: &Job, only: Option<&[Key]>) -> Result<Retried, Failure> {
    let job = &job.at_work().await?;
    let subject = Subject::look(job).await?;
    let letters = prepare::dead_letters(job, &subject.server, &subject.run.index_uuid);
    let keys = chosen(&letters, only).await?;
    let keys: Vec<Key> = keys.into_iter().map(|(key, _)| key).collect();
    let named = only.unwrap_or_default().iter();
    let unknown = named.filter(|key| !keys.contains(key)).cloned().collect();
    let comparison = subject.comparison().await;
    let (mut seen, mut together) = (Vec::new(), Together::default());
    let mut rest = keys.as_slice();
    while let Some((part, rows)) = comparison.next_rows(&mut rest, &mut together).await? {
        seen.extend(part.iter().map(|key| Seen {
            key: key.clone(),
            row: comparison.state(rows.get(key)),
        }));
    }
    if !seen.is_empty() {
        subject.write_again(&comparison, &seen).await?;
    }
    let left = chosen(&letters, Some(&keys)).await?;
    Ok(Retried {
        tried: keys.len() as u64,
        left: left.len() as u64,
        first_left: left.into_iter().map(|(key, _)| key).min(),
        unknown,
    })
}

/// The letter of a key, if it has one, and the index that it would stand in.
///
/// # Errors
/// As for [`dead_letters`].
pub async fn dead_letter(job: &Job, key: &Key) -> Result<(Option<DeadLetter>, String), Stop> {
    let letters = handle(job).await.map_err(Failure::into_stop)?;
    let found = letters.get(key).await.map_err(into_stop)?;
    Ok((found, letters.index().to_owned()))
}

/// The letters of the index as it is now.
pub(super) async fn handle(job: &Job) -> Result<DeadLetters, Failure> {
    of_index(&job.at_work().await?).await
}

/// Those of the index that the job names.
async fn of_index(job: &Job) -> Result<DeadLetters, Failure> {
    let server = job.elasticsearch.ping().await?;
    let name = &job.names.index;
    let index = Index::new(&job.elasticsearch, name);
    let look = index.look().await?.ok_or_else(|| {
        Stop::Settings(format!(
            "there is no index {name:?}: name it in ELASTICSEARCH_INDEX_NAME and its alias in ELASTICSEARCH_INDEX_ALIAS, as for `sync-es run`"
        ))
    })?;
    Ok(prepare::dead_letters(job, &server, &look.uuid))
}

/// Keys that have letters, with the letters' versions.
async fn chosen(
    letters: &DeadLetters,
    only: Option<&[Key]>,
) -> Result<Vec<(Key, Version)>, RecordsError> {
    let mut keys = letters.keys().await?;
    if let Some(only) = only {
        let only: HashSet<&Key> = only.iter().collect();
        keys.retain(|key, _| only.contains(key));
    }
    Ok(keys.into_iter().collect())
}

fn into_stop(error: RecordsError) -> Stop {
    Failure::from(error).into_stop()
}
