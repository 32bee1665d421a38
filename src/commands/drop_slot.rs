//! `sync-es drop-slot`: PostgreSQL keeps no WAL for the slot any more.

use std::process::ExitCode;

use super::exit_code;
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
    let ended = dropped(&settings.postgres).await;
    exit_code(ended.map(|was_there| {
        if was_there {
            tracing::info!(slot, "slot dropped");
        } else {
            tracing::info!(slot, "there is no such slot");
        }
    }))
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
