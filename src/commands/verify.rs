//! `sync-es verify`: is every document its row's?

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use clap::Args;
use serde_json::{Value, json};

use super::{exit_code, job::job, print};
use crate::{
    change::Key,
    observe::Traces,
    pipeline::{self, Difference, Keys, Report, Verify},
    postgres::pages::Range,
    settings::Settings,
    stop::Stop,
};

/// What `verify` is told on the command line.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Mend what differs: write documents as their rows make them, delete those without a row
    #[arg(long)]
    repair: bool,
    /// Compare only from this key on
    #[arg(long, value_name = "KEY")]
    from: Option<String>,
    /// Compare only up to this key
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
    /// Compare only about so many rows and documents, chosen at random
    #[arg(long, value_name = "N", conflicts_with_all = ["from", "to"], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    sample: Option<u32>,
    /// Differences to show, at most
    #[arg(long, value_name = "N", default_value = "20")]
    show: usize,
    /// How long the stream may take to bring what was seen in the table
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    wait: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Compares, prints what was found, and gives 0 if all is equal in the end.
pub(super) async fn verify(settings: &Settings, arguments: &Arguments) -> ExitCode {
    let wanted = Verify {
        what: arguments.sample.map_or_else(
            || {
                Keys::In(Range {
                    from: arguments.from.as_deref().map(Key::new),
                    to: arguments.to.as_deref().map(Key::new),
                })
            },
            Keys::AtRandom,
        ),
        repair: arguments.repair,
        patience: Duration::from_secs(arguments.wait),
        kept: arguments.show,
    };
    let report = match job(settings, false, Traces::default()) {
        Ok(job) => Box::pin(pipeline::verify(&job, &wanted)).await,
        Err(stop) => Err(stop),
    };
    let ended = report.and_then(|report| {
        let text = if arguments.json {
            format!("{}\n", as_json(&report))
        } else {
            as_text(&report)
        };
        print(&text);
        outcome(&report)
    });
    exit_code(ended)
}

fn outcome(report: &Report) -> Result<(), Stop> {
    if let Some(foreign) = report.foreign_version() {
        return Err(foreign);
    }
    let differ = report.found() - report.repaired;
    match (differ, report.undecided) {
        (0, 0) => Ok(()),
        (0, undecided) => Err(Stop::Undecided { undecided }),
        (differ, _) => Err(Stop::Differs { differ }),
    }
}

fn as_text(report: &Report) -> String {
    let Report {
        rows,
        documents,
        missing,
        extra,
        different,
        repaired,
        undecided,
        foreign_versions,
        ..
    } = report;
    let mut text = format!(
        "{rows} rows and {documents} documents compared\n\
         {missing} missing, {extra} extra, {different} different"
    );
    if *repaired > 0 {
        let _ = write!(text, "; {repaired} of them repaired");
    }
    if *undecided > 0 {
        let _ = write!(text, "; {undecided} not decided");
    }
    if *foreign_versions > 0 {
        let _ = write!(
            text,
            "; {foreign_versions} with a version above every commit's"
        );
    }
    text.push('\n');
    for difference in &report.differences {
        let Difference { key, kind, .. } = difference;
        let _ = write!(text, "  {:<9} {key}", kind.name());
        if !difference.fields.is_empty() {
            let _ = write!(text, "  {}", listed(difference));
        }
        text.push_str(match (difference.repaired, difference.dead_letter) {
            (true, _) => "  (repaired)\n",
            (false, true) => "  (a dead letter: see `sync-es dead-letters list`)\n",
            (false, false) => "\n",
        });
    }
    let shown = report.differences.len() as u64;
    if report.found() > shown {
        let more = report.found() - shown;
        let _ = writeln!(text, "  and {more} more (--show N shows more of them)");
    }
    text
}

fn listed(difference: &Difference) -> String {
    let fields: Vec<&str> = difference.fields.iter().map(String::as_str).collect();
    fields.join(", ")
}

fn as_json(report: &Report) -> Value {
    let differences = report.differences.iter().map(|difference| {
        json!({
            "key": difference.key.as_str(),
            "kind": difference.kind.name(),
            "fields": difference.fields,
            "version": difference.version.map(|version| version.0),
            "repaired": difference.repaired,
            "dead_letter": difference.dead_letter,
        })
    });
    json!({
        "equal": report.is_equal(),
        "rows": report.rows,
        "documents": report.documents,
        "missing": report.missing,
        "extra": report.extra,
        "different": report.different,
        "repaired": report.repaired,
        "undecided": report.undecided,
        "foreign_versions": report.foreign_versions,
        "differences": differences.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{change::Version, pipeline::Kind};

    #[test]
    fn a_report_tells_what_differs_and_what_was_not_shown() {
        let report = Report {
            rows: 10,
            documents: 11,
            extra: 1,
            different: 2,
            repaired: 1,
            undecided: 1,
            differences: vec![Difference {
                key: Key::new("k"),
                kind: Kind::Different,
                fields: BTreeSet::from(["address.city".to_owned(), "name".to_owned()]),
                version: None,
                repaired: true,
                dead_letter: false,
            }],
            ..Report::default()
        };
        assert_eq!(
            as_text(&report),
            "10 rows and 11 documents compared\n\
             0 missing, 1 extra, 2 different; 1 of them repaired; 1 not decided\n  \
             different k  address.city, name  (repaired)\n  \
             and 2 more (--show N shows more of them)\n"
        );
        assert!(matches!(outcome(&report), Err(Stop::Differs { differ: 2 })));
        assert_eq!(as_json(&report)["equal"], false);

        let foreign = Report {
            foreign_versions: 1,
            first_foreign: Some((Key::new("k"), Version(9))),
            ..report
        };
        assert!(as_text(&foreign).contains("; 1 with a version above every commit's\n"));
        let ended = outcome(&foreign);
        assert!(
            matches!(ended, Err(Stop::ForeignVersion { .. })),
            "{ended:?}"
        );
    }
}
