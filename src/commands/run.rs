//! `sync-es run`: snapshot or resume, then tail until stopped.

use std::process::ExitCode;

use crate::{postgres, settings::Settings};

/// Runs until the snapshot is done (`snapshot_only`) or until stopped.
pub(super) async fn run(settings: &Settings, snapshot_only: bool) -> ExitCode {
    match postgres::connect(&settings.postgres.connection).await {
        Ok(session) => {
            tracing::info!(
                postgres = %settings.postgres.connection.describe(),
                version = session.version,
                snapshot_only,
                "connected"
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(heals = error.heals(), "{error}");
            ExitCode::FAILURE
        }
    }
}
