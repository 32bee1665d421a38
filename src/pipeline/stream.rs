//! The stream loop: frames → operations at their commit's version → (rows read again) → delivery →
//! position stored → position confirmed.
//!
//! Four parts: the [`Decoder`] takes frames and opens tickets in commit order, the *completer* reads
//! rows again where it must, the *submitter* hands all to the lanes, the [`Keeper`] stores what is
//! reached and only then lets it be confirmed. Memory between them is bounded in bytes.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    Failure, Shutdown,
    bound::Bound,
    decoder::Decoder,
    drain::{DRAIN, Ended, drain, lane_failure, prefer_stop},
    ends::check_ends,
    keeper::Keeper,
    probe::measure,
    record::Record,
    tail::{Finished, Shared, Tail},
    vectors::build_beside,
};
use crate::{
    change::Lsn,
    delivery::{Acknowledger, Delivery},
    postgres::Stream,
    stop::Stop,
};

/// Operations between decoder and completer, at most; bytes are the nearer bound.
const QUEUE_LENGTH: usize = 4_096;

/// Streams until asked to end.
///
/// # Errors
/// Either end failed; the record holds the position that was stored last.
pub(super) async fn follow(
    tail: Tail,
    record: &mut Record,
    shutdown: &mut Shutdown,
) -> Result<Ended, Failure> {
    let stream = Stream::start(tail.endpoint.clone(), &tail.slot, &tail.publication).await?;
    failpoint!("stream-started", Failure::Heals);
    tracing::info!(slot = tail.slot, "streaming changes");
    let stored = record.run.acknowledged_lsn.map(|lsn| lsn.0);
    let meter = tail.writer.meter();
    meter.stream_begins(stored, tail.switch.is_none());
    let acknowledger = Acknowledger::<Lsn>::new();
    let (delivery, mut lanes) = Delivery::start(&tail.writer, &acknowledger, tail.lanes);
    let (items, queue) = mpsc::channel(QUEUE_LENGTH);
    let (confirm, confirmed) = watch::channel(None);
    let (stop_decoding, decoding_stopped) = watch::channel(false);
    let (sought, seeking) = mpsc::channel(1);
    let bound = Bound::stored_as(tail.read_ahead_to);
    let shared = Arc::new(Shared {
        tail,
        acknowledger,
        delivery,
        bound,
        sought,
    });
    let mut tasks: JoinSet<Result<Finished, Failure>> = JoinSet::new();
    tasks.spawn(
        Decoder::new(shared.clone(), items, confirmed).run(stream, Shutdown::new(decoding_stopped)),
    );
    tasks.spawn(shared.clone().submit(queue));

    let retry = record.retry;
    let mut keeper = Keeper::new(&shared, record, confirm);
    let failure = tokio::select! {
        biased;
        () = shutdown.requested() => None,
        Some(ended) = lanes.join_next() => Some(lane_failure(ended)),
        Some(ended) = tasks.join_next() => Some(task_failure(ended)),
        failure = keeper.run() => Some(failure),
        failure = check_ends(&shared.tail) => Some(failure),
        failure = build_beside(&shared.tail, retry) => Some(failure),
        never = Box::pin(measure(&shared, seeking)) => match never {},
    };
    if let Some(failure) = failure {
        return Err(prefer_stop(failure, &mut lanes).await);
    }
    tracing::info!("ending: waiting for requests in flight");
    stop_decoding.send_replace(true);
    let stream = wind_down(&mut tasks, &mut keeper).await?;
    drain(&shared.delivery, &mut lanes, false).await?;
    failpoint!("stream-drained", Failure::Heals);
    keeper.store_last().await?;
    failpoint!("last-position-stored", Failure::Heals);
    if let Some((stream, lsn)) = stream.zip(keeper.confirmed()) {
        stream.confirm(lsn);
        stream.close().await?;
    }
    Ok(Ended::Interrupted)
}

/// Waits a while for the tasks that were asked to end; gives the stream back.
async fn wind_down(
    tasks: &mut JoinSet<Result<Finished, Failure>>,
    keeper: &mut Keeper<'_>,
) -> Result<Option<Stream>, Failure> {
    let mut stream = None;
    let limit = Instant::now() + DRAIN;
    loop {
        // Rows that are read again still wait for the keeper.
        let ended = tokio::select! {
            biased;
            ended = tokio::time::timeout_at(limit, tasks.join_next()) => ended,
            failure = keeper.run() => return Err(failure),
        };
        match ended {
            Ok(Some(Ok(Ok(Finished::Decoder(open))))) => stream = Some(open),
            Ok(Some(Ok(Ok(Finished::Submitter)))) => {}
            Ok(Some(other)) => return Err(task_failure(other)),
            Ok(None) | Err(_) => return Ok(stream),
        }
    }
}

fn task_failure(ended: Result<Result<Finished, Failure>, tokio::task::JoinError>) -> Failure {
    match ended {
        Ok(Err(failure)) => failure,
        // The submitter ends when the decoder has; whichever is seen first, the stream is over.
        Ok(Ok(_)) => Failure::Heals("the stream has ended".to_owned()),
        Err(panicked) => Failure::Stop(Stop::Unexpected(format!(
            "a task of the stream ended: {panicked}"
        ))),
    }
}
