//! How far a snapshot is: a bar on a terminal, a log line every ten seconds elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{
    HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

/// Counts the rows of a snapshot and shows them.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// When the last line was logged; `None` when a bar is shown.
    logged: Option<Instant>,
}

const LINE_INTERVAL: Duration = Duration::from_secs(10);

impl Progress {
    /// Starts at `already` rows (those that an earlier run did) of about `total_estimate`.
    #[must_use]
    pub fn start(total_estimate: Option<u64>, already: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(total_estimate, ProgressDrawTarget::hidden())
            .with_style(style(total_estimate.is_some()))
            .with_position(already);
        // The rate is this run's, so it counts from here.
        bar.reset_eta();
        if terminal {
            let bar = super::BARS.add(bar);
            bar.enable_steady_tick(Duration::from_millis(100));
            return Self { bar, logged: None };
        }
        Self {
            bar,
            logged: Some(Instant::now()),
        }
    }

    /// Counts `rows` more.
    pub fn advance(&mut self, rows: u64) {
        self.bar.inc(rows);
        // The estimate was too low: 100 % of it is not the end.
        if self
            .bar
            .length()
            .is_some_and(|length| length < self.bar.position())
        {
            self.bar.set_length(self.bar.position());
        }
        if self
            .logged
            .is_some_and(|last| last.elapsed() >= LINE_INTERVAL)
        {
            self.logged = Some(Instant::now());
            self.log("snapshot is running");
        }
    }

    /// Ends: all rows have been counted.
    pub fn finish(self) {
        self.bar.set_length(self.bar.position());
        if self.logged.is_some() {
            self.log("snapshot has read all rows");
        }
        self.bar.finish();
    }

    fn log(&self, message: &str) {
        let rows = self.bar.position();
        let rows_per_second = rate(self.bar.per_sec());
        let Some(total) = self.bar.length().filter(|length| *length > rows) else {
            tracing::info!(rows, rows_per_second, "{message}");
            return;
        };
        tracing::info!(
            rows,
            total_estimate = total,
            percent = percent(rows, total),
            rows_per_second,
            seconds_left = self.bar.eta().as_secs(),
            "{message}"
        );
    }
}

fn style(total_known: bool) -> ProgressStyle {
    let template = if total_known {
        "{bar:30.cyan/blue} {percent:>3} % · {human_pos} of ~{human_len} rows · {rate} rows/s · {left} left"
    } else {
        "{spinner} {human_pos} rows · {rate} rows/s · {elapsed}"
    };
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key(
            "rate",
            |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = write!(out, "{}", HumanCount(rate(state.per_sec())));
            },
        )
        .with_key(
            "left",
            |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = write!(out, "{}", HumanDuration(state.eta()));
            },
        );
    style.progress_chars("█▉▊▋▌▍▎▏░")
}

/// Whole rows in a second.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is not negative, and no machine reads 2^53 rows in a second"
)]
fn rate(per_second: f64) -> u64 {
    per_second.round() as u64
}

fn percent(rows: u64, total: u64) -> u64 {
    rows.saturating_mul(100) / total.max(1)
}
