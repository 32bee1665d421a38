//! What must be so, and what is better known, before anything is changed: one list, of which `check`
//! prints all and `run` stops at what failed. Pure: what was surveyed in, findings out.

mod cluster;
mod finding;
mod fit;
mod source;
mod stream;

pub(super) use cluster::Cluster;
pub use finding::{End, Finding, Findings, Verdict};
pub(super) use fit::{Fit, Keys, Sample, Vectors};

use super::plan::{Facts, Mode};
use crate::{elasticsearch::Look, postgres::retention::Retention};

/// What was looked at; what could not be, or was not, is left out of the list.
#[derive(Debug, Default)]
pub(super) struct Survey<'a> {
    /// PostgreSQL, the table, and what is stored of earlier runs.
    pub facts: Option<&'a Facts>,
    /// For how long PostgreSQL keeps WAL.
    pub retention: Option<&'a Retention>,
    /// Elasticsearch.
    pub cluster: Option<&'a Cluster>,
    /// The index, if there is one.
    pub index: Option<&'a Look>,
    /// The table's rows beside the template and the mapping.
    pub fit: Option<&'a Fit>,
}

/// Everything that the survey tells, in the order in which it is mended best.
#[must_use]
pub(super) fn findings(survey: &Survey<'_>) -> Findings {
    let mut list = Vec::new();
    if let Some(facts) = survey.facts {
        source::findings(facts, &mut list);
        if facts.mode == Mode::Continuous {
            stream::findings(facts, survey.retention, &mut list);
        }
    }
    if let Some(cluster) = survey.cluster {
        cluster::findings(cluster, &mut list);
    }
    if let Some(index) = survey.index {
        cluster::index_findings(index, &mut list);
    }
    if let Some(fit) = survey.fit {
        fit::findings(fit, &mut list);
    }
    // The position is only worth a word where both ends could be asked.
    if let Some(facts) = survey.facts.filter(|_| survey.cluster.is_some()) {
        list.extend(fit::fed(facts));
        list.push(fit::position(facts));
    }
    Findings(list)
}

/// Whether the table's rows can be read and told apart, whatever else is to be mended.
#[must_use]
pub(super) fn is_readable(facts: &Facts) -> bool {
    let mut list = Vec::new();
    source::findings(facts, &mut list);
    Findings(list).ready()
}

#[cfg(test)]
mod tests;
