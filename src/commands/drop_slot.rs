//! `sync-es drop-slot`: PostgreSQL keeps no WAL for the slot any more.

use std::process::ExitCode;

use super::{exit_code, job};
use crate::{
    pipeline,
    postgres::{self, slot},
    settings::Settings,
    stop::Stop,
};

/// Drops the slot of the generation that is at work; that of the settings where Elasticsearch does not
/// tell. One that is not there is as good as dropped: several stops name this command as a remedy,
/// whatever state the slot is in.
pub(super) async fn drop_slot(settings: &Settings) -> ExitCode {
    let ended = dropped(settings).await;
    exit_code(ended.map(|(slot, was_there)| {
        if was_there {
            tracing::info!(slot, "slot dropped");
        } else {
            tracing::info!(slot, "there is no such slot");
        }
    }))
}

async fn dropped(settings: &Settings) -> Result<(String, bool), Stop> {
    let trouble = |error: &dyn std::fmt::Display| Stop::Postgres(error.to_string());
    let session = postgres::connect(&settings.postgres.connection)
        .await
        .map_err(|error| trouble(&error))?;
    let names = job::names(settings);
    let slot = pipeline::names_at_work(&job::client(settings)?, &names)
        .await
        .slot;
    let was_there = slot::drop_slot_once_let_go(&session.client, &slot)
        .await
        .map_err(|error| trouble(&error))?;
    Ok((slot, was_there))
}
