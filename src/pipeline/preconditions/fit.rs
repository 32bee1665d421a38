//! Both ends together: do the table's rows fit the template, the index's mapping and the limits of an
//! `_id`; and may the position that is stored be gone on from? Pure.

use super::{
    super::plan::{Facts, LostSlot, Mode, Plan, plan},
    finding::{End, Finding, Verdict},
};
use crate::{elasticsearch::Refused, stop::Stop};

/// What was found of the table's rows beside the template and the mapping.
#[derive(Debug)]
pub(in crate::pipeline) struct Fit {
    /// The table, quoted for SQL.
    pub table: String,
    /// The key column, quoted for SQL.
    pub key: String,
    /// Why the user's own template does not keep what is promised.
    pub own_template: Option<String>,
    /// Why Elasticsearch would not take the template.
    pub template_refused: Option<String>,
    /// How the mapping of the index differs from what the columns need.
    pub conflict: Option<String>,
    /// The vector columns.
    pub vectors: Vec<Vectors>,
    /// The keys of the rows that were read.
    pub keys: Keys,
    /// The rows that were tried, or why none was.
    pub sample: Result<Sample, String>,
    /// A refused document ends a run, instead of becoming a dead letter.
    pub stops_at_refusal: bool,
    /// The index is there already.
    pub index_exists: bool,
}

/// A vector column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pipeline) struct Vectors {
    /// Its name.
    pub column: String,
    /// The length that its field takes.
    pub wanted: u32,
    /// The lengths that were found in rows, or that the column's type has.
    pub found: Vec<usize>,
}

/// The keys of a few rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::pipeline) struct Keys {
    /// How many.
    pub count: usize,
    /// Bytes of the longest.
    pub bytes_max: usize,
    /// What is wrong with one of them.
    pub problem: Option<&'static str>,
}

/// Rows that were tried as documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::pipeline) struct Sample {
    /// How many.
    pub tried: usize,
    /// Those that would be refused.
    pub refused: Vec<Refused>,
}

fn see(what: &'static str, found: impl Into<String>) -> Finding {
    Finding::new(End::Both, what, found)
}

pub(super) fn findings(fit: &Fit, list: &mut Vec<Finding>) {
    list.push(template(fit));
    let conflict = fit.conflict.clone();
    if fit.index_exists {
        list.push(
            see("mapping", conflict.as_deref().unwrap_or("takes every column"))
                .wanted("a field for every column, of its type")
                .must(
                    conflict.is_none(),
                    "sync-es rebuild  # with these settings: it fills the next generation beside this one, and moves the alias to it",
                )
                .or_stop(|finding| Stop::table_changed(&finding.found)),
        );
    }
    list.extend(fit.vectors.iter().map(|vectors| dimensions(fit, vectors)));
    list.push(keys(fit));
    let fits = [&fit.own_template, &fit.template_refused, &fit.conflict];
    if fits.iter().all(|trouble| trouble.is_none()) {
        list.push(sample(fit));
    }
}

fn template(fit: &Fit) -> Finding {
    if let Some(why) = &fit.own_template {
        return see("template", why)
            .wanted("a template that guards the data and has every field")
            .must(
                false,
                "correct the file of ELASTICSEARCH_INDEX_TEMPLATE as it says",
            )
            .or_stop(|finding| Stop::Settings(finding.found.clone()));
    }
    let found = fit
        .template_refused
        .as_deref()
        .unwrap_or("Elasticsearch takes it");
    let mend = "GET /_index_template  # the one that stands in the way, or what is wrong with ours, is named above";
    see("template", found)
        .wanted("one that Elasticsearch takes")
        .must(fit.template_refused.is_none(), mend)
}

/// Vectors of no other length than the field's would all be refused.
fn dimensions(fit: &Fit, vectors: &Vectors) -> Finding {
    let Vectors {
        column,
        wanted,
        found,
    } = vectors;
    let right = found.iter().all(|length| *length == *wanted as usize);
    let some = found.contains(&(*wanted as usize));
    let Some(first) = found.iter().find(|length| **length != *wanted as usize) else {
        let told = if found.is_empty() {
            "no vector yet"
        } else {
            "as set"
        };
        return see("dimensions", format!("{column}: {told}")).wanted(wanted.to_string());
    };
    let (verdict, told) = if some {
        (
            Verdict::Warning,
            format!(
                "column {column:?} also holds vectors of {first} dimensions, which are left out"
            ),
        )
    } else {
        (
            Verdict::Failed,
            format!(
                "column {column:?} of {} holds vectors of {first} dimensions, and its field is set to {wanted}",
                fit.table
            ),
        )
    };
    see("dimensions", told)
        .wanted(wanted.to_string())
        .unless(right, verdict, format!("EMBEDDING_DIMENSIONS={first}"))
        .or_stop(|finding| {
            Stop::Settings(format!(
                "{}: set EMBEDDING_DIMENSIONS to {first}",
                finding.found
            ))
        })
}

fn keys(fit: &Fit) -> Finding {
    let Keys {
        count,
        bytes_max,
        problem,
    } = fit.keys;
    let found = match (count, problem) {
        (0, _) => "no row yet".to_owned(),
        (_, None) => format!("up to {bytes_max} bytes in {count} rows"),
        (_, Some(problem)) => {
            format!("{bytes_max} bytes: {problem}; its row becomes a dead letter")
        }
    };
    let Fit { table, key, .. } = fit;
    see("key length", found)
        .wanted("1 to 512 bytes")
        .unless(
            count == 0 || problem.is_none(),
            Verdict::Warning,
            format!("SELECT {key} FROM {table} WHERE octet_length({key}::text) NOT BETWEEN 1 AND 512;  -- give these rows other keys"),
        )
}

fn sample(fit: &Fit) -> Finding {
    let what = "sample of rows";
    let sample = match &fit.sample {
        Ok(sample) => sample,
        Err(why) => {
            return see(what, format!("not tried: {why}"))
                .wanted("all fit")
                .unless(false, Verdict::Note, "");
        }
    };
    let (tried, refused) = (sample.tried, sample.refused.len());
    let Some(first) = sample.refused.first() else {
        if tried == 0 {
            return see(what, "no row yet");
        }
        return see(what, format!("{tried} tried, all fit")).wanted("all fit");
    };
    // Where nothing fits and nothing was made yet, the mapping is not meant for this table.
    let nothing_fits = refused == tried && !fit.index_exists && tried > 1;
    let (verdict, consequence) = match (nothing_fits, fit.stops_at_refusal) {
        (true, _) => (Verdict::Failed, "refused"),
        (false, false) => (Verdict::Warning, "refused and set aside as dead letters"),
        (false, true) => (Verdict::Warning, "refused, which ends the run"),
    };
    let found = format!(
        "{refused} of {tried} would be {consequence}; key {:?}: {}",
        first.key, first.reason
    );
    let Fit { table, key, .. } = fit;
    let value = first.key.replace('\'', "''");
    see(what, found).wanted("all fit").unless(
        false,
        verdict,
        format!("SELECT * FROM {table} WHERE {key}::text = '{value}';  -- correct the row, or the field's type (docs/document.md)"),
    )
}

/// A one-shot run moves the alias, and the service would go on feeding an index that nobody searches.
pub(super) fn fed(facts: &Facts) -> Option<Finding> {
    let fed = facts.fed.as_ref()?;
    let found = format!(
        "{} is on {}, which `sync-es run` keeps equal to the table (slot {})",
        fed.alias, fed.index, fed.slot
    );
    let finding = see("service", found)
        .wanted("no service that feeds another index under the alias")
        .must(
            false,
            "sync-es rebuild  # fills the next index and moves the alias; or another ELASTICSEARCH_INDEX_ALIAS with another ELASTICSEARCH_INDEX_NAME, for a copy beside; or `sync-es drop-slot` with the settings of the service, to give that up",
        );
    Some(finding)
}

/// Whether the position that is stored may be gone on from, and what a run would do.
pub(super) fn position(facts: &Facts) -> Finding {
    let plan = match plan(facts) {
        Ok(plan) => plan,
        Err(stop) => {
            let is_replaced = |_: &String| facts.lost_slot == LostSlot::Rebuild;
            let Some(why) = stop.lost_changes().filter(is_replaced) else {
                return Finding::stopped(End::Both, "position", stop);
            };
            let found =
                format!("{why}; run fills the next generation of the index, and goes on with that");
            return see("position", found);
        }
    };
    let found = match (plan, &facts.run) {
        (Plan::Begin { .. }, _) if facts.unseen.is_some() => {
            let why = facts.unseen.as_deref().unwrap_or_default();
            return see("position", format!("run reads the table anew: {why}"));
        }
        (Plan::Begin { .. }, _) => "run begins with the first row".to_owned(),
        (Plan::Heal { .. }, _) => {
            "the slot was lost: run compares the index with the table, mends what differs, and goes on with a new slot".to_owned()
        }
        (Plan::Resume, Some(run)) => {
            let rows = run.n_input_records;
            format!("run goes on with the snapshot, after {rows} rows")
        }
        (Plan::Tail, Some(run)) if facts.mode == Mode::Continuous => {
            let lsn = run.acknowledged_lsn.or(run.consistent_point);
            format!(
                "run goes on with the stream after {}",
                lsn.unwrap_or_default()
            )
        }
        (Plan::Resume | Plan::Tail, _) => "run goes on where the last one ended".to_owned(),
    };
    see("position", found)
}
