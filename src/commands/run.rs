//! `sync-es run`: snapshot or resume, then tail until stopped.

use std::process::ExitCode;

use tokio::task::JoinSet;

use super::{
    exit_code,
    job::{job, traces},
    signals::shutdown_on_signals,
};
use crate::{
    observe::Admin,
    pipeline::{self, Outcome, Shutdown},
    settings::{self, AdminAddress, Settings},
    stop::Stop,
};

/// Runs until the snapshot is done (`snapshot_only`) or until stopped.
pub(super) async fn run(settings: &Settings, snapshot_only: bool) -> ExitCode {
    let ended = match shutdown_on_signals() {
        Ok(shutdown) => Box::pin(work(settings, snapshot_only, shutdown)).await,
        Err(stop) => Err(stop),
    };
    exit_code(ended.map(|outcome| match outcome {
        Outcome::Complete => tracing::info!("done: the index equals the table as it was read"),
        Outcome::Interrupted => tracing::info!("ended as asked; the next start goes on from here"),
    }))
}

/// Does the work, and answers at the admin address meanwhile.
async fn work(
    settings: &Settings,
    snapshot_only: bool,
    shutdown: Shutdown,
) -> Result<Outcome, Stop> {
    let job = job(settings, snapshot_only, traces(settings)?)?;
    // Ends with the set.
    let mut watched = JoinSet::new();
    if let Some(admin) = listen(&settings.admin).await? {
        watched.spawn(admin.serve(job.meter.clone()));
    }
    Box::pin(pipeline::run(&job, shutdown)).await
}

/// An address that is set and taken is a stop: who watches it would be watching something else. The
/// default one is for whoever comes first, so that a standby or a one-shot run needs no setting.
async fn listen(settings: &settings::Admin) -> Result<Option<Admin>, Stop> {
    let (address, is_set) = match &settings.address {
        Some(AdminAddress::Off) => return Ok(None),
        Some(AdminAddress::At(address)) => (address.as_str(), true),
        None => (settings::Admin::DEFAULT_ADDRESS, false),
    };
    match Admin::bind(address).await {
        Ok(admin) => {
            if let Ok(address) = admin.address() {
                tracing::info!(%address, "answering at the admin address");
            }
            Ok(Some(admin))
        }
        Err(error) if is_set => Err(Stop::Settings(format!(
            "SYNC_ES_ADMIN_ADDR: {address}: {error}: set another one, or off"
        ))),
        Err(error) => {
            tracing::warn!(
                address,
                %error,
                "no metrics and no status page: the default admin address is not free; set SYNC_ES_ADMIN_ADDR to another one, or off"
            );
            Ok(None)
        }
    }
}
