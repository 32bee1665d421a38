//! How far a walk over the table is: a bar on a terminal, a log line every ten seconds elsewhere.
//!
//! The rate is that of this run, from its start: rows that an earlier run did count as done, but not
//! as fast.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{
    HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

/// Counts rows and shows how many. Dropped before its end, it leaves no bar behind.
#[derive(Debug)]
pub struct Progress {
    /// What is counted, in log lines.
    what: &'static str,
    bar: ProgressBar,
    already: u64,
    /// When the last line was logged; `None` when a bar is shown.
    logged: Option<Instant>,
}

const LINE_INTERVAL: Duration = Duration::from_secs(10);

impl Progress {
    /// `what` (`snapshot`) starts at `already` rows (those that an earlier run did) of about `total_estimate`.
    #[must_use]
    pub fn start(what: &'static str, total_estimate: Option<u64>, already: u64) -> Self {
        let bar = ProgressBar::with_draw_target(total_estimate, ProgressDrawTarget::hidden())
            .with_style(style(total_estimate.is_some(), already))
            .with_position(already);
        if !std::io::stderr().is_terminal() {
            return Self {
                what,
                bar,
                already,
                logged: Some(Instant::now()),
            };
        }
        let bar = super::BARS.add(bar);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self {
            what,
            bar,
            already,
            logged: None,
        }
    }

    /// Counts `rows` more.
    pub fn advance(&mut self, rows: u64) {
        self.bar.inc(rows);
        let position = self.bar.position();
        // The estimate was too low: 100 % of it is not the end.
        if self.bar.length().is_some_and(|length| length < position) {
            self.bar.set_length(position);
        }
        if self
            .logged
            .is_some_and(|last| last.elapsed() >= LINE_INTERVAL)
        {
            self.logged = Some(Instant::now());
            self.log("is running");
        }
    }

    /// Ends: all rows have been counted, or, with `complete` false, not yet. Takes the bar away and
    /// leaves a line.
    pub fn finish(self, complete: bool) {
        self.clear();
        if complete {
            self.bar.set_length(self.bar.position());
            self.log("has reached the end of the table");
        } else {
            self.log("has not reached the end of the table");
        }
    }

    fn clear(&self) {
        let rows = self.bar.position();
        self.bar.finish_and_clear();
        // It has gone to the estimate's end.
        self.bar.set_position(rows);
    }

    fn log(&self, message: &str) {
        let message = format!("{} {message}", self.what);
        let rows = self.bar.position();
        let rows_per_second = rate(rows.saturating_sub(self.already), self.bar.elapsed());
        let Some(total) = self.bar.length().filter(|length| *length > rows) else {
            tracing::info!(rows, rows_per_second, "{message}");
            return;
        };
        tracing::info!(
            rows,
            total_estimate = total,
            percent = rows.saturating_mul(100) / total,
            rows_per_second,
            seconds_left = left(rows, total, rows_per_second).map(|left| left.as_secs()),
            "{message}"
        );
    }
}

fn style(total_known: bool, already: u64) -> ProgressStyle {
    let template = if total_known {
        "{bar:30.cyan/blue} {percent:>3} % · {human_pos} of ~{human_len} rows · {rate} rows/s · {left}"
    } else {
        "{spinner} {human_pos} rows · {rate} rows/s · {elapsed}"
    };
    let rate_of =
        move |state: &ProgressState| rate(state.pos().saturating_sub(already), state.elapsed());
    let show_rate = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = write!(out, "{}", HumanCount(rate_of(state)));
    };
    let show_left = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let total = state.len().unwrap_or_default();
        let _ = match left(state.pos(), total, rate_of(state)) {
            Some(left) => write!(out, "{} left", HumanDuration(left)),
            None => Ok(()),
        };
    };
    // The templates are constants, and the test below parses both.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", show_rate)
        .with_key("left", show_left)
        .progress_chars("█▉▊▋▌▍▎▏░")
}

/// Whole rows in a second.
fn rate(rows: u64, elapsed: Duration) -> u64 {
    let milliseconds = elapsed.as_millis().max(1);
    u64::try_from(u128::from(rows) * 1000 / milliseconds).unwrap_or(u64::MAX)
}

/// How long the rest takes; `None` while there is no rate.
fn left(rows: u64, total: u64, rows_per_second: u64) -> Option<Duration> {
    total
        .saturating_sub(rows)
        .checked_div(rows_per_second)
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_counts_what_was_done_in_the_time() {
        assert_eq!(rate(30_000, Duration::from_millis(1500)), 20_000);
        assert_eq!(rate(0, Duration::ZERO), 0);
        assert_eq!(left(200, 1000, 400), Some(Duration::from_secs(2)));
        assert_eq!(left(2000, 1000, 400), Some(Duration::ZERO));
        assert_eq!(left(200, 1000, 0), None);
    }

    #[test]
    fn an_estimate_that_was_too_high_is_not_what_is_told_at_the_end() {
        let mut progress = Progress::start("snapshot", Some(100), 0);
        progress.advance(7);
        progress.clear();
        assert_eq!(progress.bar.position(), 7);
    }

    #[test]
    fn an_estimate_that_was_too_low_grows_with_the_rows() {
        let mut progress = Progress::start("snapshot", Some(100), 40);
        progress.advance(50);
        assert_eq!(progress.bar.length(), Some(100));
        progress.advance(50);
        assert_eq!(
            (progress.bar.position(), progress.bar.length()),
            (140, Some(140))
        );
    }
}
