//! A rebuild: the next generation of the index is made and filled beside the one that serves, compared
//! with the table, and then the alias goes to it in one step. A rollback does the same with the generation
//! before, which is compared and mended instead of made.
//!
//! All of it is an ordinary run into another index, from a slot of its own, whose alias is held back until
//! index and table are equal: so a rebuild that was killed goes on as every run does. What is added is who
//! may (one at a time), which generation, and how the service goes over: it sees the alias elsewhere, lets
//! its slot go and waits for its new index, which is fed here until then.

mod drop;
mod goal;

pub use drop::drop_generations;
pub use goal::Goal;

use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::goal::Swap;
use super::{
    Failure, Shutdown,
    generation::{drop_slot_of, previous, rebuild_lock, writers_lock},
    job::{Job, Outcome, Role},
    leadership, letters, phases,
    plan::{LostSlot, Names, streams_from},
    prepare, survey,
    verify::{Keys, Verify, compare},
};
use crate::{
    change::Key,
    delivery::OnRefusal,
    elasticsearch::{Phase, Run, alias_targets},
    postgres::{
        self, Session, catalog, lock,
        pages::Range,
        slot::{self, Slot},
    },
    stop::Stop,
};

/// How often is looked whether a step is done.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the stream may take to come past a comparison before it is compared again.
const PATIENCE: Duration = Duration::from_mins(1);

/// Fills another generation and moves the alias to it. Documents that Elasticsearch refuses keep the alias
/// where it is, unless `accepts_dead_letters`.
///
/// # Errors
/// There is no such generation, its documents do not equal their rows, or what stops a run.
pub async fn rebuild(
    job: &Job,
    goal: Goal,
    accepts_dead_letters: bool,
    mut shutdown: Shutdown,
) -> Result<Outcome, Stop> {
    let begun = tokio::select! {
        biased;
        () = shutdown.requested() => return Ok(Outcome::Interrupted),
        begun = begin(job, goal) => begun,
    };
    let (lock, swap) = begun.map_err(Failure::into_stop)?;
    Box::pin(fill(job, lock, &swap, accepts_dead_letters, &mut shutdown))
        .await
        .map_err(Failure::into_stop)
}

async fn begin(job: &Job, goal: Goal) -> Result<(Lock, Swap), Failure> {
    // Whoever starts it wants to know at once when an end cannot be reached.
    let session = postgres::connect(&job.postgres).await;
    let session = session.map_err(|error| Stop::Postgres(error.to_string()))?;
    let pong = job.elasticsearch.ping().await;
    pong.map_err(|error| Stop::Elasticsearch(error.to_string()))?;
    let lock = Lock::take_with(session, job).await?;
    let swap = lock
        .during(Box::pin(prepare_swap(job, goal, &lock.0)))
        .await?;
    Ok((lock, swap))
}

async fn prepare_swap(job: &Job, goal: Goal, session: &Session) -> Result<Swap, Failure> {
    let job = &job.on_the_server_of(session);
    let swap = goal.swap(job, session).await?;
    if goal == Goal::Next
        && let Some(previous) = previous(&job.elasticsearch, &swap.from).await?
    {
        // A rebuild was killed when it had moved the alias already.
        let_go(job, &swap.from, &previous).await?;
    }
    clear_the_way(job, &swap.to).await?;
    Ok(swap)
}

/// Fills the next generation in place of the one at work, to which changes are lost, and ends with
/// [`Failure::Moved`] once the alias is on it. Documents that Elasticsearch refuses are set aside, as in any
/// run of a service.
///
/// # Errors
/// The alias has moved, or what a rebuild ends with.
pub(super) async fn replace(
    job: &Job,
    from: &Names,
    why: &str,
    shutdown: &mut Shutdown,
) -> Result<Outcome, Failure> {
    let begun = tokio::select! {
        biased;
        () = shutdown.requested() => return Ok(Outcome::Interrupted),
        begun = begin_to_replace(job, from) => begun,
    };
    let (lock, swap) = begun?;
    tracing::warn!(
        why,
        "changes may be lost to the index: it is replaced by its next generation"
    );
    let filled = fill(job, lock, &swap, true, shutdown).await;
    match filled.map_err(gives_way)? {
        Outcome::Complete => Err(Failure::Moved(swap.to.index)),
        Outcome::Interrupted => Ok(Outcome::Interrupted),
    }
}

/// A service waits for whoever is in the way, and begins anew where the next generation has met the same.
fn gives_way(failure: Failure) -> Failure {
    match failure {
        Failure::Stop(Stop::CannotRebuild(why)) => Failure::Heals(why),
        Failure::Stop(stop) => match stop.lost_changes() {
            Some(why) => Failure::Heals(why),
            None => Failure::Stop(stop),
        },
        other => other,
    }
}

async fn begin_to_replace(job: &Job, from: &Names) -> Result<(Lock, Swap), Failure> {
    // A standby instance has met the same.
    let lock = Lock::wait(job).await?;
    let swap = lock
        .during(Box::pin(prepare_to_replace(job, from, &lock.0)))
        .await?;
    Ok((lock, swap))
}

async fn prepare_to_replace(job: &Job, from: &Names, session: &Session) -> Result<Swap, Failure> {
    let job = &job.on_the_server_of(session);
    let at_work = job.at_work().await?.names;
    let targets = alias_targets(&job.elasticsearch, &at_work.alias).await?;
    if at_work != *from || targets != [from.index.as_str()] {
        return Err(Failure::Moved(at_work.index));
    }
    // Free again with the session.
    let session = postgres::connect(&job.postgres).await?;
    // It was this instance's until a moment ago.
    if !lock::take_once_let_go(&session.client, &writers_lock(from)).await? {
        let why = format!("another instance is at work on {}", from.index);
        return Err(Failure::Heals(why));
    }
    let slot = slot::look(&session.client, &from.slot).await?;
    if !has_lost_changes(job, from, slot.as_ref(), &session).await? {
        let why = format!(
            "{} and its slot are not what they were just now",
            from.index
        );
        return Err(Failure::Heals(why));
    }
    let swap = Goal::Next.swap(job, &session).await?;
    if let Some(slot) = slot {
        let database = catalog::database(&session.client).await?;
        streams_from(&slot, &from.slot, &database)?;
        // So that there is one that is free.
        slot::drop_slot_once_let_go(&session.client, &from.slot).await?;
    }
    clear_the_way(job, &swap.to).await.map_err(gives_way)?;
    Ok(swap)
}

/// Whether the index is still of this cluster, and its slot lost or a standby promoted since.
async fn has_lost_changes(
    job: &Job,
    names: &Names,
    slot: Option<&Slot>,
    session: &Session,
) -> Result<bool, Failure> {
    let of_it = job.on(names.clone());
    let look = survey::index(&of_it).await?;
    let Some(meta) = look.and_then(|look| look.meta) else {
        return Ok(false);
    };
    let run = prepare::runs(&of_it).latest_of(true).await?;
    let server = catalog::server(&session.client).await?;
    if server.system_identifier != meta.system_identifier || server.timeline < meta.timeline {
        return Ok(false);
    }
    let is_promoted = server.timeline > meta.timeline;
    let is_lost =
        slot.is_none_or(Slot::is_lost) || run.is_some_and(|run| run.heals_without_a_slot());
    Ok(is_promoted || is_lost)
}

/// Fills the generation that is to serve, and moves the alias to it once it is compared.
async fn fill(
    job: &Job,
    lock: Lock,
    swap: &Swap,
    accepts_dead_letters: bool,
    shutdown: &mut Shutdown,
) -> Result<Outcome, Failure> {
    tracing::info!(
        from = swap.from.index,
        to = swap.to.index,
        slot = swap.to.slot,
        "filling another generation; the alias stays where it is until that is complete and compared"
    );
    let (allow, may_serve) = watch::channel(false);
    let next = Job {
        names: swap.to.clone(),
        role: Role::Rebuild { may_serve },
        // What the comparison finds later, healing finds as well.
        lost_slot: LostSlot::Heal,
        ..job.clone()
    };
    let (ask, asked) = watch::channel(false);
    let before = prepare::runs(&next).latest().await?;
    let before = before.map_or(0, |run| run.number);
    let steps = async {
        loaded(&next, before).await?;
        compared(&next, accepts_dead_letters).await?;
        failpoint!("generation-compared");
        allow.send_replace(true);
        at_the_alias(&next).await?;
        let_go(&next, &swap.to, &swap.from).await?;
        failpoint!("previous-slot-dropped");
        Ok(Outcome::Complete)
    };
    let mut run = Box::pin(phases::keep_trying(&next, None, Shutdown::new(asked)));
    let ended = tokio::select! {
        biased;
        () = shutdown.requested() => Ok(Outcome::Interrupted),
        // By itself it ends with a stop alone.
        stopped = &mut run => {
            let goes_on = |stop: &Stop| stop.lost_changes().is_none();
            if stopped.as_ref().is_err_and(goes_on) {
                tracing::warn!(
                    index = swap.to.index,
                    "it stays as it is: `sync-es rebuild` goes on with it, and `sync-es rebuild --drop` gives it up, so that the next one is made anew"
                );
            }
            return Ok(stopped?);
        }
        ended = Box::pin(steps) => ended,
        taken = lock.hold(job) => Err(taken),
    };
    ask.send_replace(true);
    run.await?;
    ended
}

/// Looks that nobody fills the generation already, and removes what is left of one whose index somebody
/// has deleted.
async fn clear_the_way(job: &Job, to: &Names) -> Result<(), Failure> {
    let session = postgres::connect(&job.postgres).await?;
    // Free again with the session.
    if !lock::take_once_let_go(&session.client, &writers_lock(to)).await? {
        let why = format!("another instance writes into {}", to.index);
        return Err(Stop::CannotRebuild(why).into());
    }
    let of_it = job.on(to.clone());
    let runs = prepare::runs(&of_it);
    let is_there = survey::index(&of_it).await?.is_some();
    if let Some(run) = runs.latest().await?.filter(|_| !is_there) {
        if let Some(slot) = run.slot {
            slot::drop_slot_once_let_go(&session.client, &slot).await?;
        }
        runs.forget().await?;
    }
    Ok(())
}

/// Waits until the run, which is later than number `before`, has read the table, has caught up with what
/// was written until then, and has built its vector graph.
async fn loaded(next: &Job, before: u64) -> Result<(), Failure> {
    let runs = prepare::runs(next);
    let follows =
        |run: &Run| run.number > before && run.sync_finished && run.phase == Phase::Stream;
    let mut mark = None;
    let is_loaded = async || -> Result<bool, Failure> {
        let Some(run) = runs.latest_of(true).await?.filter(follows) else {
            return Ok(false);
        };
        if mark.is_none() {
            let session = postgres::connect(&next.postgres).await?;
            mark = Some(catalog::mark(&session.client).await?);
        }
        let look = survey::index(next).await?;
        let is_built = look.is_some_and(|look| look.deferred.is_empty());
        Ok(is_built && run.acknowledged_lsn >= mark)
    };
    until(next, "looking at the run", is_loaded).await
}

/// Waits until every document is its row's.
async fn compared(next: &Job, accepts_dead_letters: bool) -> Result<(), Failure> {
    tracing::info!(index = next.names.index, "comparing it with the table");
    let wanted = Verify {
        what: Keys::In(Range::default()),
        repair: false,
        patience: PATIENCE,
        // They are held against the dead letters.
        kept: match next.on_refusal {
            OnRefusal::SetAside { limit } => limit,
            OnRefusal::Stop => 1,
        },
    };
    let equals = async || -> Result<bool, Failure> {
        let report = Box::pin(compare(next, &wanted)).await?;
        if let Some(foreign) = report.foreign_version() {
            return Err(foreign.into());
        }
        let differ = report.found();
        let kept = &report.differences;
        let all_refused = kept.len() as u64 == differ && kept.iter().all(|one| one.dead_letter);
        if !all_refused {
            return Err(Stop::Differs { differ }.into());
        }
        if let Some(first) = kept.first().filter(|_| !accepts_dead_letters) {
            return Err(Stop::DeadLetters {
                count: differ,
                index: prepare::dead_letters_index(&next.names),
                key: first.key.to_string(),
                reason: format!(
                    "{}. `sync-es dead-letters list --elasticsearch-index-name {}` shows them all; with --accept-dead-letters the alias is moved all the same",
                    reason_of(next, &first.key).await?,
                    next.names.index
                ),
            }
            .into());
        }
        if report.undecided > 0 {
            tracing::warn!(
                documents = report.undecided,
                "changes were faster than the comparison: comparing again"
            );
            return Ok(false);
        }
        tracing::info!(
            rows = report.rows,
            documents = report.documents,
            dead_letters = differ,
            "compared: it equals the table"
        );
        Ok(true)
    };
    until(next, "comparing", equals).await
}

/// Why the document of a key was refused.
async fn reason_of(next: &Job, key: &Key) -> Result<String, Failure> {
    let letters = letters::handle(next).await?;
    let found = letters.get(key).await?;
    Ok(found.map_or_else(|| "its letter is gone".to_owned(), |letter| letter.why()))
}

/// Waits until the run has moved the alias.
async fn at_the_alias(next: &Job) -> Result<(), Failure> {
    let names = &next.names;
    let is_there = async || -> Result<bool, Failure> {
        let targets = alias_targets(&next.elasticsearch, &names.alias).await?;
        Ok(targets == [names.index.as_str()])
    };
    until(next, "looking at the alias", is_there).await
}

/// Waits until whoever writes into the generation that has served before has gone over to the one that
/// serves now, and drops its slot.
async fn let_go(job: &Job, serving: &Names, left: &Names) -> Result<(), Failure> {
    let mut told = false;
    let is_gone = async || -> Result<bool, Failure> {
        let targets = alias_targets(&job.elasticsearch, &serving.alias).await?;
        if targets != [serving.index.as_str()] {
            let why = format!(
                "alias {} was moved to {targets:?} meanwhile, so the slot {} is not dropped",
                serving.alias, left.slot
            );
            return Err(Stop::CannotRebuild(why).into());
        }
        let session = postgres::connect(&job.postgres).await?;
        let gone = drop_slot_of(&session, left).await?;
        if !gone && !told {
            tracing::info!(slot = left.slot, "waiting for the service to go over");
            told = true;
        }
        Ok(gone)
    };
    until(job, "dropping the slot of the generation before", is_gone).await
}

/// Looks again and again until it is so. A trouble that heals is waited for.
async fn until(
    job: &Job,
    doing: &str,
    mut is_so: impl AsyncFnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut attempt = 0;
    loop {
        match is_so().await {
            Ok(true) => return Ok(()),
            Ok(false) => {
                attempt = 0;
                tokio::time::sleep(PAUSE).await;
            }
            Err(failure) => {
                attempt += 1;
                failure.wait(job.retry, attempt, doing).await?;
            }
        }
    }
}

/// Of all that make or drop generations of an index, one is at work.
struct Lock(Session);

impl Lock {
    /// # Errors
    /// Another one is at work, or PostgreSQL cannot be asked.
    async fn take(job: &Job) -> Result<Self, Failure> {
        Self::take_with(postgres::connect(&job.postgres).await?, job).await
    }

    /// [`Self::take`], once no other one is at work.
    async fn wait(job: &Job) -> Result<Self, Failure> {
        let session = postgres::connect(&job.postgres).await?;
        session.expire_when_silent().await?;
        let name = rebuild_lock(&job.names);
        let why = "another instance fills the next generation";
        tokio::select! {
            biased;
            led = leadership::stand_by(job, &session, &name, why) => led?,
            lost = session.lost() => return Err(Failure::Heals(lost.to_string())),
        }
        Ok(Self(session))
    }

    /// Does this while the lock is held.
    ///
    /// # Errors
    /// The lock was lost, or what the work ends with.
    async fn during<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            lost = self.0.lost() => Err(Failure::Heals(lost.to_string())),
            done = work => done,
        }
    }

    async fn take_with(session: Session, job: &Job) -> Result<Self, Failure> {
        session.expire_when_silent().await?;
        if lock::take_once_let_go(&session.client, &rebuild_lock(&job.names)).await? {
            return Ok(Self(session));
        }
        let why = format!("another rebuild of {} is at work", job.names.alias);
        Err(Stop::CannotRebuild(why).into())
    }

    /// Takes the lock anew whenever the session is lost; ends when another one was faster.
    async fn hold(mut self, job: &Job) -> Failure {
        loop {
            let lost = self.0.lost().await;
            // PostgreSQL may take the lost session for alive as long as that.
            let expires = Instant::now() + self.0.silence_max();
            let mut failure = Failure::Heals(lost.to_string());
            let mut attempt = 0;
            self = loop {
                attempt += 1;
                let doing = "taking the lock of the rebuild again";
                if let Err(failure) = failure.wait(job.retry, attempt, doing).await {
                    return failure;
                }
                match Self::take(job).await {
                    Ok(lock) => break lock,
                    Err(Failure::Stop(taken)) if Instant::now() < expires => {
                        failure = Failure::Heals(taken.to_string());
                    }
                    Err(again) => failure = again,
                }
            };
        }
    }
}
