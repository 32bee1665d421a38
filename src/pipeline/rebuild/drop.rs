//! Drops the generations that do not serve: the one before, and one that was not completed.

use super::{Lock, goal::Estate};
use crate::{
    elasticsearch::{Index, Look},
    pipeline::{Failure, generation::writers_lock, job::Job, letters::purge, plan::Names, prepare},
    postgres::{Session, lock, slot},
    stop::Stop,
};

/// Drops every generation but the one that serves, with its slot, its dead letters and its run metadata;
/// gives the names of the indices. The index goes last, so that whoever is broken off can begin again.
///
/// # Errors
/// A rebuild is at work, no generation serves, or one of the ends cannot be asked.
pub async fn drop_generations(job: &Job) -> Result<Vec<String>, Stop> {
    Box::pin(carry_out(job)).await.map_err(Failure::into_stop)
}

async fn carry_out(job: &Job) -> Result<Vec<String>, Failure> {
    let Lock(session) = Lock::take(job).await?;
    tokio::select! {
        biased;
        // It holds the locks.
        lost = session.lost() => Err(Failure::Heals(lost.to_string())),
        dropped = drop_all(job, &session) => dropped,
    }
}

async fn drop_all(job: &Job, session: &Session) -> Result<Vec<String>, Failure> {
    let estate = Estate::look(job, session).await?;
    estate.stop_at_an_old_primary()?;
    let serving = estate.live.slot();
    let mut dropped = Vec::new();
    for look in &estate.others {
        let slot = look.slot().filter(|&slot| Some(slot) != serving);
        drop_one(job, session, look, slot).await?;
        dropped.push(look.index.clone());
    }
    Ok(dropped)
}

async fn drop_one(
    job: &Job,
    session: &Session,
    look: &Look,
    slot: Option<&str>,
) -> Result<(), Failure> {
    let names = Names {
        index: look.index.clone(),
        ..job.names.clone()
    };
    let client = &session.client;
    if !lock::take_once_let_go(client, &writers_lock(&names)).await? {
        let why = format!("another instance writes into {}", names.index);
        return Err(Stop::CannotRebuild(why).into());
    }
    if let Some(slot) = slot
        && slot::drop_slot_once_let_go(client, slot).await?
    {
        tracing::info!(slot, "dropped the slot");
    }
    let of_it = job.on(names);
    prepare::runs(&of_it).forget().await?;
    let server = job.elasticsearch.ping().await?;
    purge(&prepare::dead_letters(&of_it, &server, &look.uuid), None).await?;
    Index::new(&job.elasticsearch, &look.index).delete().await?;
    tracing::info!(index = look.index, "dropped the index");
    Ok(())
}
