//! `sync-es drop-slot`: PostgreSQL keeps no WAL for the slot any more.

use std::process::ExitCode;

use crate::{
    postgres::{self, slot},
    settings::Postgres,
    settings::Settings,
    stop::Stop,
};

/// Drops the slot of these settings. One that is not there is as good as dropped: several stops
/// name this command as a remedy, whatever state the slot is in.
pub(super) async fn drop_slot(settings: &Settings) -> ExitCode {
    let slot = &settings.postgres.slot;
    match dropped(&settings.postgres).await {
        Ok(true) => tracing::info!(slot, "slot dropped"),
        Ok(false) => tracing::info!(slot, "there is no such slot"),
        Err(stop) => {
            tracing::error!(exit_code = stop.exit_code(), "{stop}");
            return ExitCode::from(stop.exit_code());
        }
    }
    ExitCode::SUCCESS
}

async fn dropped(settings: &Postgres) -> Result<bool, Stop> {
    let trouble = |error: &dyn std::fmt::Display| Stop::Postgres(error.to_string());
    let session = postgres::connect(&settings.connection)
        .await
        .map_err(|error| trouble(&error))?;
    slot::drop_slot(&session.client, &settings.slot)
        .await
        .map_err(|error| trouble(&error))
}
