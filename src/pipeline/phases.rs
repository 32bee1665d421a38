//! Carries the plan out, in its order: publication, lock and slot, snapshot to the end, stream,
//! alias once caught up. A snapshot row is never written after a streamed one.
//!
//! A trouble that heals ends the attempt, not the program: the next attempt looks at both ends
//! anew and goes on from the stored position.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Failure, Shutdown,
    attempt::Attempt,
    job::{Job, Outcome},
    plan::{LostSlot, Mode, Names},
    prepare, probe,
    rebuild::replace,
    record::Record,
};
use crate::{
    change::Version,
    observe,
    postgres::{self, catalog},
    stop::Stop,
};

/// How long an attempt may take to end in order once the program is asked to end. Nothing is lost
/// when it does not: what is not stored comes again.
const GRACE: Duration = Duration::from_secs(25);

/// Runs the job until it is done, the program is asked to end, or a stop.
///
/// # Errors
/// A named stop.
pub async fn run(job: &Job, shutdown: Shutdown) -> Result<Outcome, Stop> {
    // Whoever starts the program wants to know at once when an end cannot be reached.
    let session = postgres::connect(&job.postgres)
        .await
        .map_err(|error| Stop::Postgres(error.to_string()))?;
    job.elasticsearch
        .ping()
        .await
        .map_err(|error| Stop::Elasticsearch(error.to_string()))?;
    Box::pin(keep_trying(job, Some(session), shutdown)).await
}

/// Attempts, until one does not end with a trouble that heals; the first one in this session.
///
/// # Errors
/// A named stop.
pub(super) async fn keep_trying(
    job: &Job,
    mut session: Option<postgres::Session>,
    mut shutdown: Shutdown,
) -> Result<Outcome, Stop> {
    let mut record: Option<Record> = None;
    let mut retries = 0;
    loop {
        let began = Instant::now();
        let stood = record.as_ref().map(Record::position);
        let mut impatient = shutdown.clone();
        let attempted = tokio::select! {
            biased;
            attempted = attempt(job, session.take(), &mut record, &mut shutdown) => attempted,
            () = async { impatient.requested().await; tokio::time::sleep(GRACE).await } => {
                tracing::warn!("ended without waiting any longer for what is in flight; it will come again");
                return Ok(Outcome::Interrupted);
            }
        };
        let failure = match attempted {
            Ok(outcome) => return Ok(outcome),
            Err(Failure::Moved(index)) if !shutdown.is_requested() => {
                tracing::info!(
                    index,
                    "the alias is on another generation: going on with that one"
                );
                continue;
            }
            Err(failure) => failure,
        };
        if shutdown.is_requested() && !matches!(failure, Failure::Stop(_)) {
            return Ok(Outcome::Interrupted);
        }
        let trouble = trouble(job, record.as_mut(), failure).await?;
        // An attempt that came further or ran for long did not meet the same trouble again.
        let came_further = record.as_ref().map(Record::position) != stood;
        retries = if came_further || began.elapsed() > job.retry.backoff_max {
            1
        } else {
            retries + 1
        };
        let Some(wait) = job.retry.wait(retries) else {
            let stop = Stop::RetriesExhausted {
                attempts: retries,
                cause: trouble,
            };
            note_stop(record.as_mut(), &stop).await;
            return Err(stop);
        };
        job.meter.attempt_failed(&trouble);
        tracing::warn!(
            trouble,
            wait_seconds = wait.as_secs_f64(),
            "not ready: going on from the stored position in a moment"
        );
        tokio::select! {
            () = shutdown.requested() => return Ok(Outcome::Interrupted),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// The trouble, if trying again is right. What was in order when the program began its work and is
/// not now will be again: an always-on run says what is missing, and waits.
///
/// # Errors
/// A named stop, noted in the record.
async fn trouble(job: &Job, record: Option<&mut Record>, failure: Failure) -> Result<String, Stop> {
    let waits = job.mode == Mode::Continuous && record.is_some();
    let stop = match failure {
        Failure::Heals(trouble) => return Ok(trouble),
        failure @ (Failure::Lane | Failure::Moved(_)) => {
            return Ok(failure.into_stop().to_string());
        }
        Failure::Denied(trouble) if waits => return Ok(trouble),
        Failure::Denied(denied) => Stop::Postgres(denied),
        Failure::Stop(Stop::Preconditions(unmet)) if waits => {
            return Ok(Stop::Preconditions(unmet).to_string());
        }
        Failure::Stop(Stop::ForeignVersion { key, stored, .. })
            if of_another_instance(job, stored).await =>
        {
            return Ok(format!(
                "another instance has written a newer document of key {key:?}"
            ));
        }
        Failure::Stop(stop) => stop,
    };
    note_stop(record, &stop).await;
    Err(stop)
}

async fn attempt(
    job: &Job,
    session: Option<postgres::Session>,
    record: &mut Option<Record>,
    shutdown: &mut Shutdown,
) -> Result<Outcome, Failure> {
    let ended = Box::pin(in_session(job, session, record, shutdown)).await;
    if let Err(Failure::Stop(stop)) = &ended
        && let Some(why) = stop.lost_changes()
        && let Some(from) = to_be_replaced(job).await?
    {
        // The session is gone, and with it the lock of whoever writes into the index.
        return Box::pin(replace(job, &from, &why, shutdown)).await;
    }
    ended
}

async fn in_session(
    job: &Job,
    session: Option<postgres::Session>,
    record: &mut Option<Record>,
    shutdown: &mut Shutdown,
) -> Result<Outcome, Failure> {
    job.meter.phase(observe::Phase::Starting);
    let session = match session {
        Some(session) => session,
        None => postgres::connect(&job.postgres).await?,
    };
    let job = &job.at_work().await?.on_the_server_of(&session);
    tokio::select! {
        biased;
        outcome = Attempt::carry_out(job, &session, record, shutdown) => outcome,
        never = probe::slot(job, &session), if job.mode == Mode::Continuous => match never {},
        // The session holds the lock that says that this instance is the one that writes.
        ended = session.lost() => Err(Failure::Heals(ended.to_string())),
    }
}

/// The generation at work, if it is left as it is and the next one filled, once changes are lost to it.
async fn to_be_replaced(job: &Job) -> Result<Option<Names>, Failure> {
    if job.lost_slot != LostSlot::Rebuild {
        return Ok(None);
    }
    let at_work = job.at_work().await?;
    let about = prepare::about_lost_changes(&at_work).await?;
    Ok((about == LostSlot::Rebuild).then_some(at_work.names))
}

/// Whether a version that this attempt could not know is one that the database has given since: then
/// another instance took over while this one was cut off. A database that cannot be asked now is
/// asked by the next attempt.
async fn of_another_instance(job: &Job, stored: Version) -> bool {
    let Ok(session) = postgres::connect(&job.postgres).await else {
        return true;
    };
    let server = catalog::server(&session.client).await;
    server.is_ok_and(|server| stored <= Version::bound_of_commits_to(server.wal_flush))
}

/// Leaves the reason in the run's record, for whoever looks there first.
async fn note_stop(record: Option<&mut Record>, stop: &Stop) {
    if let Some(record) = record.filter(|_| !matches!(stop, Stop::Fenced(_))) {
        record.run.error = Some(stop.to_string());
        record.run.finished_at = Some(jiff::Timestamp::now());
        if matches!(stop, Stop::TableChanged { .. }) {
            // What the log has of the table from here on cannot be followed, also once it is mended.
            record.run.coverage = None;
        }
        // The stop itself matters more than that it could not be noted.
        let _ = record.store_if_possible().await;
    }
}
