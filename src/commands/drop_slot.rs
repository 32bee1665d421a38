//! `sync-es drop-slot`: PostgreSQL keeps no WAL for the slot any more.

use std::process::ExitCode;

use crate::{postgres, settings::Postgres, settings::Settings, stop::Stop};

/// Drops the slot of these settings.
pub(super) async fn drop_slot(settings: &Settings) -> ExitCode {
    match dropped(&settings.postgres).await {
        Ok(()) => {
            tracing::info!(slot = settings.postgres.slot, "slot dropped");
            ExitCode::SUCCESS
        }
        Err(stop) => {
            tracing::error!(exit_code = stop.exit_code(), "{stop}");
            ExitCode::from(stop.exit_code())
        }
    }
}

async fn dropped(settings: &Postgres) -> Result<(), Stop> {
    let session = postgres::connect(&settings.connection)
        .await
        .map_err(|error| Stop::Postgres(error.to_string()))?;
    session
        .client
        .execute("SELECT pg_drop_replication_slot($1)", &[&settings.slot])
        .await
        .map_err(|error| {
            let answer = error.as_db_error().map(ToString::to_string);
            let answer = answer.unwrap_or_else(|| error.to_string());
            Stop::Postgres(format!("slot {} was not dropped: {answer}", settings.slot))
        })?;
    Ok(())
}
