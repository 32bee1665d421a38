//! `sync-es check`: what a run would stop at and what it would warn of, without a change at either end.
//!
//! It ends with the exit code that a run would end with now: 0 when nothing failed.

use std::{
    env,
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::builder::styling::{AnsiColor, Style};
use serde_json::json;

use super::{job::job, print};
use crate::{
    observe::Traces,
    pipeline::{self, End, Finding, Findings, Verdict},
    settings::Settings,
};

/// How the findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Looks, prints, and gives the exit code.
pub(super) async fn check(settings: &Settings, snapshot_only: bool, form: Form) -> ExitCode {
    let findings = match job(settings, snapshot_only, Traces::default()) {
        Ok(job) => Box::pin(pipeline::check(&job)).await,
        Err(stop) => Findings(vec![Finding::stopped(End::Both, "settings", stop)]),
    };
    let code = findings.exit_code();
    let printed = match form {
        Form::Text => text(&findings, colours()),
        Form::Json => {
            let ready = findings.ready();
            let findings = listed(&findings);
            format!(
                "{}\n",
                json!({"ready": ready, "exit_code": code, "findings": findings})
            )
        }
    };
    print(&printed);
    ExitCode::from(code)
}

/// On a terminal, unless <https://no-color.org> is set.
fn colours() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

fn listed(findings: &Findings) -> serde_json::Value {
    let of = |finding: &Finding| {
        json!({
            "end": end(finding.end, true),
            "what": finding.what,
            "verdict": verdict(finding.verdict),
            "found": finding.found,
            "wanted": finding.wanted,
            "mend": finding.mend,
        })
    };
    findings.0.iter().map(of).collect()
}

fn end(end: End, for_programs: bool) -> &'static str {
    match (end, for_programs) {
        (End::PostgreSql, false) => "PostgreSQL",
        (End::Elasticsearch, false) => "Elasticsearch",
        (End::Both, false) => "Both together",
        (End::PostgreSql, true) => "postgresql",
        (End::Elasticsearch, true) => "elasticsearch",
        (End::Both, true) => "both",
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Note => "note",
        Verdict::Warning => "warning",
        Verdict::Failed => "failed",
    }
}

fn style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Ok => AnsiColor::Green.on_default(),
        Verdict::Note => AnsiColor::Cyan.on_default(),
        Verdict::Warning => AnsiColor::Yellow.on_default(),
        Verdict::Failed => AnsiColor::Red.on_default().bold(),
    }
}

/// One line a finding under its end; below it, where something is to be mended, what is wanted and
/// what mends it.
fn text(findings: &Findings, coloured: bool) -> String {
    let width = findings.0.iter().map(|finding| finding.what.len()).max();
    let width = width.unwrap_or_default();
    let mut lines = Vec::new();
    for group in [End::PostgreSql, End::Elasticsearch, End::Both] {
        let of_group: Vec<&Finding> = findings
            .0
            .iter()
            .filter(|finding| finding.end == group)
            .collect();
        if !of_group.is_empty() {
            lines.push(end(group, false).to_owned());
            lines.extend(of_group.iter().flat_map(|one| told(one, width, coloured)));
            lines.push(String::new());
        }
    }
    lines.push(summary(findings));
    lines.push(String::new());
    lines.join("\n")
}

fn told(finding: &Finding, width: usize, coloured: bool) -> Vec<String> {
    let (mark, what) = (verdict(finding.verdict), finding.what);
    let (on, off) = if coloured {
        let style = style(finding.verdict);
        (style.render().to_string(), style.render_reset().to_string())
    } else {
        (String::new(), String::new())
    };
    let mut lines = vec![format!(
        "  {on}{mark:<7}{off}  {what:<width$}  {}",
        finding.found
    )];
    if finding.verdict != Verdict::Ok {
        let below = |name: &str, text: &str| {
            let indent = width + 11;
            (!text.is_empty()).then(|| format!("{:indent$}  {name:<7} {text}", ""))
        };
        lines.extend(below("wanted:", &finding.wanted));
        lines.extend(below("mend:", finding.mend.as_deref().unwrap_or_default()));
    }
    lines
}

fn summary(findings: &Findings) -> String {
    let count = |verdict| {
        let of = findings.0.iter().filter(|one| one.verdict == verdict);
        of.count()
    };
    let warnings = match count(Verdict::Warning) {
        1 => "1 warning".to_owned(),
        count => format!("{count} warnings"),
    };
    match (findings.exit_code(), count(Verdict::Failed)) {
        (0, _) => format!("ready to run; {warnings}"),
        (code, failed) => {
            format!("not ready: {failed} failed, {warnings}; run would end with exit code {code}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        Findings(vec![
            Finding::new(End::Both, "sample", "3 tried").wanted("all fit"),
            Finding::new(End::PostgreSql, "version", "15.18"),
            Finding::new(End::PostgreSql, "wal_level", "replica")
                .wanted("logical")
                .must(false, "ALTER SYSTEM …"),
        ])
    }

    #[test]
    fn a_person_sees_what_is_wanted_only_where_something_is_to_be_mended() {
        let expected = "\
PostgreSQL
  ok       version    15.18
  failed   wal_level  replica
                      wanted: logical
                      mend:   ALTER SYSTEM …

Both together
  ok       sample     3 tried

not ready: 1 failed, 0 warnings; run would end with exit code 12
";
        assert_eq!(text(&findings(), false), expected);
        let coloured = text(&findings(), true);
        assert!(coloured.contains("\u{1b}["), "{coloured:?}");
    }

    #[test]
    fn a_program_sees_all_of_each_finding() {
        let listed = listed(&findings());
        assert_eq!(
            listed[2],
            json!({
                "end": "postgresql",
                "what": "wal_level",
                "verdict": "failed",
                "found": "replica",
                "wanted": "logical",
                "mend": "ALTER SYSTEM …",
            })
        );
        assert_eq!(listed[0]["mend"], json!(null));
    }
}
