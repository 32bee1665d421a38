//! `sync-es status`: how it stands, from both ends, and from the service itself if it answers.

use std::{fmt, process::ExitCode};

use indicatif::{BinaryBytes, HumanCount, HumanDuration};
use jiff::{Timestamp, Unit};
use serde::Serialize;

use super::{exit_code, job, print};
use crate::{
    observe::{self, Status},
    pipeline::{Overview, RunView, SlotView},
    settings::{self, Settings},
    stop::Stop,
};

/// All that could be learned.
#[derive(Debug, Serialize)]
struct Report {
    alias: String,
    table: String,
    /// What the service says of itself; none when it does not answer.
    service: Option<Status>,
    /// Why it says nothing.
    service_silent: Option<String>,
    #[serde(flatten)]
    overview: Overview,
    /// What could not be asked.
    troubles: Vec<String>,
}

/// Prints it. The exit code is that of the first end that could not be asked, 0 if both could.
pub(super) async fn status(settings: &Settings, json: bool) -> ExitCode {
    let client = match job::client(settings) {
        Ok(client) => client,
        Err(stop) => return exit_code(Err(stop)),
    };
    let names = job::names(settings);
    let ((overview, troubles), service) = tokio::join!(
        Overview::look(&client, &settings.postgres.connection, &names),
        service(&settings.admin, &names.alias),
    );
    let (service, service_silent) = match service {
        Ok(status) => (Some(status), None),
        Err(why) => (None, Some(why)),
    };
    let report = Report {
        alias: names.alias,
        table: settings.postgres.table.to_string(),
        service,
        service_silent,
        overview,
        troubles: troubles.iter().map(ToString::to_string).collect(),
    };
    let text = if json {
        serde_json::to_string_pretty(&report).map(|text| text + "\n")
    } else {
        Ok(report.to_string())
    };
    print(&text.unwrap_or_default());
    ExitCode::from(troubles.first().map_or(0, Stop::exit_code))
}

/// What the service says, if it is the one that these settings mean.
async fn service(admin: &settings::Admin, alias: &str) -> Result<Status, String> {
    let Some(address) = admin.expected_at() else {
        return Err("SYNC_ES_ADMIN_ADDR is off".to_owned());
    };
    match observe::ask(address).await {
        Ok(status) if status.subject.alias == alias => Ok(status),
        Ok(other) => {
            let other = other.subject.alias;
            Err(format!("{address} is that of the alias {other}"))
        }
        Err(error) => Err(format!("{address}: {error}")),
    }
}

/// For a person. What is not known is left out.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let overview = &self.overview;
        let targets = overview.alias_points_to.join(", ");
        line(f, "table", &format!("{} → {}", self.table, overview.index))?;
        let alias = if targets.is_empty() {
            format!("{}, which points nowhere yet", self.alias)
        } else {
            format!("{} → {targets}", self.alias)
        };
        line(f, "alias", &alias)?;
        line(f, "service", &self.told_of_service())?;
        match &overview.run {
            Some(run) => line(f, "run", &told_of_run(run))?,
            None if self.troubles.is_empty() => line(f, "run", "none yet")?,
            None => {}
        }
        if let Some(position) = self.told_of_position() {
            line(f, "position", &position)?;
        }
        match &overview.slot {
            Some(slot) => line(f, "slot", &told_of_slot(slot))?,
            None if overview.wal_end.is_some() => line(f, "slot", "none")?,
            None => {}
        }
        for beside in &overview.beside {
            let slot = beside.slot.as_ref().map(told_of_slot);
            let slot = slot.map_or("no slot".to_owned(), |slot| format!("slot {slot}"));
            line(f, "beside", &format!("{}, {slot}", beside.index))?;
        }
        if let Some(service) = &self.service {
            line(f, "throughput", &told_of_throughput(service))?;
        }
        let service_letters = self.service.as_ref().map(|service| service.dead_letters);
        if let Some(letters) = service_letters.or(overview.dead_letters) {
            line(f, "dead letters", &HumanCount(letters).to_string())?;
        }
        line(f, "last error", &self.last_error())?;
        for (at, run) in overview.history.iter().enumerate() {
            let label = if at == 0 { "before" } else { "" };
            line(f, label, &told_of_run(run))?;
        }
        for trouble in &self.troubles {
            line(f, "not asked", trouble)?;
        }
        Ok(())
    }
}

impl Report {
    fn told_of_service(&self) -> String {
        let Some(service) = &self.service else {
            let why = self.service_silent.as_deref().unwrap_or_default();
            let active = self.overview.slot.as_ref().is_some_and(|slot| slot.active);
            return if active {
                format!("running, since its slot is streamed from; it says nothing: {why}")
            } else {
                format!("not running, or not seen from here: {why}")
            };
        };
        let ready = if service.ready {
            "ready".to_owned()
        } else {
            format!("not ready: {}", service.not_ready.join("; "))
        };
        format!("{}, {ready}", service.phase.told())
    }

    fn told_of_position(&self) -> Option<String> {
        let overview = &self.overview;
        let position = overview.run.as_ref()?.position?;
        let mut told = vec![position.to_string()];
        if let Some(bytes) = overview.lag_bytes {
            told.push(format!("{} behind the end of the WAL", BinaryBytes(bytes)));
        }
        let lag = self
            .service
            .as_ref()
            .and_then(|service| service.lag.seconds);
        if lag == Some(0.0) {
            told.push("every change that was committed is in".to_owned());
        } else if let Some(seconds) = lag {
            told.push(format!(
                "the oldest change that is not in is {seconds:.1} s old"
            ));
        }
        Some(told.join(", "))
    }

    fn last_error(&self) -> String {
        let of_service = self.service.as_ref().and_then(|service| {
            let error = service.last_error.as_ref()?;
            Some(format!("{}: {}", second(error.at), error.text))
        });
        let of_run = || {
            let run = self.overview.run.as_ref()?;
            let error = run.error.as_ref()?;
            Some(format!("{}: {error}", second(run.updated_at)))
        };
        of_service
            .or_else(of_run)
            .unwrap_or_else(|| "none".to_owned())
    }
}

fn told_of_run(run: &RunView) -> String {
    let phase = serde_json::to_value(run.phase).unwrap_or_default();
    let mut told = vec![
        format!("{} on {}", run.number, run.host),
        phase.as_str().unwrap_or_default().to_owned(),
        format!("begun {}", second(run.started_at)),
        format!("stored {}", ago(run.updated_at)),
        format!("{} rows and changes", HumanCount(run.operations)),
    ];
    if let (false, Some(key)) = (run.snapshot_complete, &run.last_key) {
        told.push(format!("the snapshot is in up to key {key:?}"));
    }
    if let Some(error) = &run.error {
        told.push(format!("stopped: {}", shortened(error)));
    }
    told.join(", ")
}

/// The beginning of a message that is told whole elsewhere: as the last error, or with `--json`.
fn shortened(message: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    let first = message.lines().next().unwrap_or_default();
    let short: String = first.chars().take(CHARACTERS_MAX).collect();
    if short == message {
        return short;
    }
    format!("{}…", short.trim_end_matches([' ', ':', ',', '.']))
}

fn told_of_slot(slot: &SlotView) -> String {
    let active = if slot.active { "streamed from" } else { "idle" };
    let mut told = vec![slot.name.clone(), active.to_owned()];
    if let Some(status) = &slot.wal_status {
        told.push(format!("WAL {status}"));
    }
    if let Some(bytes) = slot.retained_bytes {
        told.push(format!("keeps {}", BinaryBytes(bytes)));
    }
    match slot.safe_bytes {
        Some(bytes) => {
            let bytes = BinaryBytes(bytes.max(0).unsigned_abs());
            told.push(format!(
                "{bytes} more can be written before it is in danger"
            ));
        }
        None if slot.wal_status.as_deref() == Some("lost") => {}
        None => told.push("max_slot_wal_keep_size sets no limit".to_owned()),
    }
    told.join(", ")
}

fn told_of_throughput(service: &Status) -> String {
    format!(
        "{:.0} operations a second; {} of them open",
        service.throughput.operations,
        HumanCount(service.operations.open)
    )
}

fn line(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    writeln!(f, "{label:<14}{text}")
}

fn second(at: Timestamp) -> Timestamp {
    at.round(Unit::Second).unwrap_or(at)
}

fn ago(at: Timestamp) -> String {
    let since = Timestamp::now().duration_since(at);
    let since = since.try_into().unwrap_or_default();
    format!("{} ago", HumanDuration(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runs_line_has_the_beginning_of_a_long_message() {
        assert_eq!(shortened("replication slot gone"), "replication slot gone");
        assert_eq!(
            shortened("not ready to run:\n  - one\n  - two"),
            "not ready to run…"
        );
        let long = "ä".repeat(200);
        assert_eq!(shortened(&long), format!("{}…", "ä".repeat(80)));
    }
}
