//! `sync-es rebuild`: the next generation of the index, beside the one that serves.

use std::process::ExitCode;

use clap::Args;

use super::{
    exit_code,
    job::{job, traces},
    print,
    signals::shutdown_on_signals,
};
use crate::{
    observe::Traces,
    pipeline::{self, Goal, Outcome},
    settings::Settings,
    stop::Stop,
};

/// What `rebuild` is told on the command line.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Go back to the generation that served before: compare and mend it, and move the alias to it
    #[arg(long, conflicts_with = "drop")]
    rollback: bool,
    /// Drop every generation that does not serve, with its slot: the one before, and one that was not
    /// completed
    #[arg(long)]
    drop: bool,
    /// Move the alias although Elasticsearch has refused documents of the new generation
    #[arg(long, conflicts_with = "drop")]
    accept_dead_letters: bool,
}

/// Rebuilds, and gives 0 once the alias is on the generation that is wanted.
pub(super) async fn rebuild(settings: &Settings, arguments: &Arguments) -> ExitCode {
    let ended = if arguments.drop {
        drop_generations(settings).await
    } else {
        Box::pin(carry_out(settings, arguments)).await
    };
    exit_code(ended)
}

async fn carry_out(settings: &Settings, arguments: &Arguments) -> Result<(), Stop> {
    let shutdown = shutdown_on_signals()?;
    let goal = if arguments.rollback {
        Goal::Previous
    } else {
        Goal::Next
    };
    let job = job(settings, false, traces(settings)?)?;
    match pipeline::rebuild(&job, goal, arguments.accept_dead_letters, shutdown).await? {
        Outcome::Complete => tracing::info!(
            "done: the alias is on the other generation, and `sync-es run` goes on with that; `sync-es rebuild --rollback` goes back, `--drop` drops the one before"
        ),
        Outcome::Interrupted => tracing::info!(
            "ended as asked; the next `sync-es rebuild` goes on from here, `--drop` drops what there is"
        ),
    }
    Ok(())
}

async fn drop_generations(settings: &Settings) -> Result<(), Stop> {
    let dropped = pipeline::drop_generations(&job(settings, false, Traces::default())?).await?;
    if dropped.is_empty() {
        print("there is no generation but the one that serves\n");
    }
    for index in dropped {
        print(&format!("dropped {index}\n"));
    }
    Ok(())
}
