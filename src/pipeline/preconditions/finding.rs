//! One thing that was looked at: what was found, what is wanted, and what mends it. Pure.

use crate::stop::{Precondition, Stop};

/// Where a thing is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// PostgreSQL.
    PostgreSql,
    /// Elasticsearch.
    Elasticsearch,
    /// Either: one does not fit the other.
    Both,
}

/// What a finding means for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Ok,
    /// Works, at a cost that is worth knowing.
    Note,
    /// Works now, and can do harm later.
    Warning,
    /// A run stops here.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug)]
pub struct Finding {
    /// Where it is mended.
    pub end: End,
    /// What was looked at, in a word or two.
    pub what: &'static str,
    /// What was found.
    pub found: String,
    /// What should have been found.
    pub wanted: String,
    /// What it means.
    pub verdict: Verdict,
    /// The statement, request or setting that mends it; only where something is to be mended.
    pub mend: Option<String>,
    /// What a run ends with here, if that has a name and an exit code of its own.
    stop: Option<Stop>,
}

/// All that was looked at.
#[derive(Debug)]
pub struct Findings(pub Vec<Finding>);

impl Finding {
    /// A thing as it was found; well, until something else is said.
    pub fn new(end: End, what: &'static str, found: impl Into<String>) -> Self {
        Self {
            end,
            what,
            found: found.into(),
            wanted: String::new(),
            verdict: Verdict::Ok,
            mend: None,
            stop: None,
        }
    }

    /// What is wanted.
    #[must_use]
    pub fn wanted(mut self, wanted: impl Into<String>) -> Self {
        self.wanted = wanted.into();
        self
    }

    /// Unless `met`, it has this verdict, and this mends it.
    #[must_use]
    pub fn unless(mut self, met: bool, verdict: Verdict, mend: impl Into<String>) -> Self {
        if !met {
            self.verdict = verdict;
            self.mend = Some(mend.into());
        }
        self
    }

    /// [`Self::unless`] that fails.
    #[must_use]
    pub fn must(self, met: bool, mend: impl Into<String>) -> Self {
        self.unless(met, Verdict::Failed, mend)
    }

    /// What a run ends with here; the stop's own text says what mends it.
    #[must_use]
    pub fn stopped(end: End, what: &'static str, stop: Stop) -> Self {
        Self {
            verdict: Verdict::Failed,
            stop: Some(stop),
            ..Self::new(end, what, "")
        }
        .with_the_stops_text()
    }

    /// A run ends with this stop if it fails here, and not with the list of what is to be mended.
    #[must_use]
    pub fn or_stop(mut self, stop: impl FnOnce(&Self) -> Stop) -> Self {
        if self.verdict == Verdict::Failed {
            self.stop = Some(stop(&self));
        }
        self
    }

    fn with_the_stops_text(mut self) -> Self {
        self.found = self.stop.as_ref().map(Stop::to_string).unwrap_or_default();
        self
    }

    /// In one line: what it is and what it should be.
    #[must_use]
    pub fn told(&self) -> String {
        match self.wanted.as_str() {
            "" => format!("{}: {}", self.what, self.found),
            wanted => format!("{}: {} (wanted: {wanted})", self.what, self.found),
        }
    }
}

impl Findings {
    /// What a run ends with here: the list of all that failed, unless all of that has a named stop.
    #[must_use]
    pub fn into_stop(self) -> Option<Stop> {
        let all_named = self.failed().all(|finding| finding.stop.is_some());
        let failed = self.0.into_iter();
        let mut failed = failed.filter(|finding| finding.verdict == Verdict::Failed);
        if all_named {
            return failed.find_map(|finding| finding.stop);
        }
        let listed = failed.map(|finding| Precondition {
            found: finding.told(),
            mend: finding.mend.unwrap_or_default(),
        });
        Some(Stop::Preconditions(listed.collect()))
    }

    /// The exit code of [`Self::into_stop`]; 0 when nothing failed.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let named: Option<Vec<&Stop>> =
            self.failed().map(|finding| finding.stop.as_ref()).collect();
        match named {
            Some(stops) => stops.first().map_or(0, |stop| stop.exit_code()),
            None => Stop::Preconditions(Vec::new()).exit_code(),
        }
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.failed().next().is_none()
    }

    fn failed(&self) -> impl Iterator<Item = &Finding> {
        self.0
            .iter()
            .filter(|finding| finding.verdict == Verdict::Failed)
    }
}
