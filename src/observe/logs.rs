//! Log lines: text for people, JSON for programs, both on standard error.
//!
//! A bare level is about our own lines. Libraries speak from `warn` up only, because at `debug`
//! some of them print statements with their parameters, and those are rows.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// Sends all further log lines to standard error. Does nothing when called again.
///
/// `filter` is a level or directives as [`EnvFilter`] reads them; `format` is by default text on a
/// terminal and JSON otherwise.
pub fn start(filter: &str, format: Option<LogFormat>) {
    let terminal = io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    });
    let lines = tracing_subscriber::registry().with(EnvFilter::new(directives(filter)));
    // Fails only when lines already have somewhere to go.
    let _ = match format {
        LogFormat::Text => lines
            .with(
                fmt::layer()
                    .with_ansi(terminal)
                    .with_target(false)
                    .with_writer(AroundBars::default),
            )
            .try_init(),
        LogFormat::Json => lines
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(AroundBars::default),
            )
            .try_init(),
    };
}

/// The filter that stands for a bare level; directives are taken as they are.
fn directives(filter: &str) -> String {
    // The replication client logs the errors that it also returns, and they are logged where they
    // are handled.
    const LIBRARIES: &str = "pgwire_replication=off";
    if filter.contains(['=', ',', '[']) {
        return format!("{LIBRARIES},{filter}");
    }
    match filter.parse::<tracing::level_filters::LevelFilter>() {
        Ok(level) => {
            let others = level.min(tracing::level_filters::LevelFilter::WARN);
            format!("{others},{LIBRARIES},sync_es={level}")
        }
        Err(_) => format!("{LIBRARIES},{filter}"),
    }
}

/// Collects one line and writes it while the bars are off the screen.
#[derive(Debug, Default)]
struct AroundBars(Vec<u8>);

impl Write for AroundBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for AroundBars {
    fn drop(&mut self) {
        // When standard error is closed there is nobody to tell.
        let _ = super::BARS.suspend(|| io::stderr().write_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_leaves_libraries_at_warnings() {
        assert_eq!(
            directives("trace"),
            "warn,pgwire_replication=off,sync_es=trace"
        );
        assert_eq!(
            directives("error"),
            "error,pgwire_replication=off,sync_es=error"
        );
        assert_eq!(
            directives("info,tokio_postgres=debug"),
            "pgwire_replication=off,info,tokio_postgres=debug"
        );
        assert_eq!(directives("off"), "off,pgwire_replication=off,sync_es=off");
    }
}
