//! `sync-es drop-slot`: PostgreSQL keeps no WAL for the slot any more.

use std::process::ExitCode;

use crate::{postgres, settings::Settings};

/// Drops the slot of these settings.
pub(super) async fn drop_slot(settings: &Settings) -> ExitCode {
    let slot = &settings.postgres.slot;
    let session = match postgres::connect(&settings.postgres.connection).await {
        Ok(session) => session,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let dropped = session
        .client
        .execute("SELECT pg_drop_replication_slot($1)", &[slot])
        .await;
    match dropped {
        Ok(_) => {
            tracing::info!(slot, "slot dropped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let error = error
                .as_db_error()
                .map_or_else(|| error.to_string(), ToString::to_string);
            tracing::error!(slot, error, "slot not dropped");
            ExitCode::FAILURE
        }
    }
}
