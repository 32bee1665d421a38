//! The figures: what was measured, against what, and whether its goal is reached. A table to read, and
//! JSON to compare.

use std::{fmt, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::Bench;

/// What a figure has to be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Its ratio to the other one, at least.
    RatioAtLeast(f64),
    /// Its ratio to the other one, at most.
    RatioAtMost(f64),
    /// Itself, at most.
    AtMost(f64),
    /// What it is more than the other one, at most.
    MoreByAtMost(f64),
}

/// One figure: medians of its rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    figure: String,
    name: String,
    unit: &'static str,
    value: f64,
    rounds: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Against>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Goal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reached: Option<bool>,
}

#[derive(Debug, Clone, Serialize)]
struct Against {
    name: String,
    value: f64,
    rounds: Vec<f64>,
}

impl Record {
    /// `rounds` in `unit`, at least one. `figure` groups records (`snapshot`), `name` tells them apart
    /// (`256 floats, sync-es`).
    pub fn new(figure: &str, name: impl Into<String>, unit: &'static str, rounds: &[f64]) -> Self {
        Self {
            figure: figure.to_owned(),
            name: name.into(),
            unit,
            value: median(rounds),
            rounds: rounds.to_vec(),
            against: None,
            ratio: None,
            goal: None,
            reached: None,
        }
    }

    /// What it is compared with, measured in the same rounds.
    #[must_use]
    pub fn against(mut self, name: impl Into<String>, rounds: &[f64]) -> Self {
        let value = median(rounds);
        self.ratio = Some(self.value / value).filter(|ratio| ratio.is_finite());
        self.against = Some(Against {
            name: name.into(),
            value,
            rounds: rounds.to_vec(),
        });
        self
    }

    /// What it has to be; for a ratio or a difference, after [`Self::against`].
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        let other = self.against.as_ref().map(|against| against.value);
        self.reached = match goal {
            Goal::RatioAtLeast(least) => self.ratio.map(|ratio| ratio >= least),
            Goal::RatioAtMost(most) => self.ratio.map(|ratio| ratio <= most),
            Goal::AtMost(most) => Some(self.value <= most),
            Goal::MoreByAtMost(most) => other.map(|other| self.value - other <= most),
        };
        self.goal = Some(goal);
        self
    }
}

/// All figures, and where they were measured.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    records: Vec<Record>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Machine {
    date: String,
    commit: String,
    cores: usize,
    processor: String,
    memory_gib: f64,
    postgres: String,
    elasticsearch: String,
    heap_gib: f64,
    size: String,
    rounds: u32,
}

impl Report {
    /// An empty one, with what the servers say of themselves.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn new(bench: &Bench) -> Result<Self> {
        Ok(Self {
            machine: Machine::look(bench).await?,
            records: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// Takes a figure.
    pub fn add(&mut self, record: Record) {
        eprintln!("bench: {record}");
        self.records.push(record);
    }

    /// A sentence below the table: how something was measured, or why it was not.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Writes all as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_json(&self, file: &Path) -> Result<()> {
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        std::fs::write(file, json).with_context(|| format!("writing {}", file.display()))
    }
}

impl Machine {
    async fn look(bench: &Bench) -> Result<Self> {
        let row = bench
            .postgres
            .admin()
            .await?
            .query_one("SHOW server_version", &[])
            .await?;
        let server = bench
            .elasticsearch
            .request(hyper::Method::GET, "/", None)
            .await?;
        let heap = bench
            .elasticsearch
            .request(
                hyper::Method::GET,
                "/_nodes/stats/jvm?filter_path=nodes.*.jvm.mem.heap_max_in_bytes",
                None,
            )
            .await?;
        let heap_bytes = heap["nodes"]
            .as_object()
            .and_then(|nodes| nodes.values().next())
            .and_then(|node| node["jvm"]["mem"]["heap_max_in_bytes"].as_f64())
            .unwrap_or_default();
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Ok(Self {
            date: said_by("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            commit: said_by("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
            cores: std::thread::available_parallelism()?.get(),
            processor: field(&processors, "model name")
                .unwrap_or_default()
                .to_owned(),
            memory_gib: gib(field(&memory, "MemTotal")
                .and_then(|total| total.trim_end_matches(" kB").parse::<f64>().ok())
                .unwrap_or_default()
                * 1024.0),
            postgres: row.get::<_, String>(0),
            elasticsearch: server["version"]["number"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            heap_gib: gib(heap_bytes),
            size: format!("{:?}", bench.size).to_lowercase(),
            rounds: bench.rounds,
        })
    }
}

/// To a tenth.
fn gib(bytes: f64) -> f64 {
    (bytes / f64::from(1 << 30) * 10.0).round() / 10.0
}

/// The first value of that name in a file of /proc.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim() == name)
        .map(|(_, value)| value.trim())
}

/// A program's first line of output; nothing where there is no such program.
fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The middle one, or the mean of the two in the middle; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length.is_multiple_of(2) => {
            f64::midpoint(sorted[length / 2 - 1], sorted[length / 2])
        }
        length => sorted[length / 2],
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = self.cells();
        write!(f, "{}: {} {}", cells[0], cells[1], cells[2])?;
        if let Some(against) = &self.against {
            write!(f, " against {} of {}", rounded(against.value), against.name)?;
        }
        if let Some(ratio) = self.ratio {
            write!(f, " ({ratio:.2})")?;
        }
        Ok(())
    }
}

impl Record {
    const HEADS: [&'static str; 7] = [
        "figure",
        "value",
        "unit",
        "against",
        "its value",
        "ratio",
        "goal",
    ];

    fn cells(&self) -> [String; 7] {
        let against = self.against.as_ref();
        let goal = self.goal.map(|goal| {
            let wanted = match goal {
                Goal::RatioAtLeast(ratio) => format!("ratio ≥ {ratio}"),
                Goal::RatioAtMost(ratio) => format!("ratio ≤ {ratio}"),
                Goal::AtMost(value) => format!("≤ {value}"),
                Goal::MoreByAtMost(value) => format!("≤ +{value}"),
            };
            format!(
                "{wanted}: {}",
                if self.reached == Some(true) {
                    "yes"
                } else {
                    "no"
                }
            )
        });
        [
            format!("{}, {}", self.figure, self.name),
            rounded(self.value),
            self.unit.to_owned(),
            against
                .map(|against| against.name.clone())
                .unwrap_or_default(),
            against
                .map(|against| rounded(against.value))
                .unwrap_or_default(),
            self.ratio
                .map(|ratio| format!("{ratio:.2}"))
                .unwrap_or_default(),
            goal.unwrap_or_default(),
        ]
    }
}

/// Three digits that count, or all that stand before the point.
pub fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => {
            let digits = format!("{value:.0}");
            let (sign, digits) = digits
                .strip_prefix('-')
                .map_or(("", &digits[..]), |digits| ("-", digits));
            let groups: Vec<&str> = digits
                .as_bytes()
                .rchunks(3)
                .rev()
                .filter_map(|group| std::str::from_utf8(group).ok())
                .collect();
            format!("{sign}{}", groups.join(","))
        }
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A Markdown table, aligned for a terminal.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        writeln!(
            f,
            "{}, commit {}: {} cores ({}), {} GiB; PostgreSQL {}, Elasticsearch {} with {} GiB of heap; size {}, medians of {}\n",
            machine.date,
            machine.commit,
            machine.cores,
            machine.processor,
            machine.memory_gib,
            machine.postgres,
            machine.elasticsearch,
            machine.heap_gib,
            machine.size,
            machine.rounds
        )?;
        let mut rows = vec![Record::HEADS.map(str::to_owned)];
        rows.extend(self.records.iter().map(Record::cells));
        let widths: Vec<usize> = (0..Record::HEADS.len())
            .map(|column| {
                rows.iter()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or_default()
            })
            .collect();
        for (number, row) in rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                for width in &widths {
                    write!(f, "|{}", "-".repeat(width + 2))?;
                }
                writeln!(f, "|")?;
            }
        }
        for note in &self.notes {
            write!(f, "\n- {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_by_medians() {
        let record = Record::new("x", "y", "rows/s", &[1.0, 96.0, 1000.0])
            .against("z", &[100.0, 90.0, 110.0]);
        assert_eq!(
            record.clone().goal(Goal::RatioAtLeast(0.95)).reached,
            Some(true)
        );
        assert_eq!(
            record.clone().goal(Goal::RatioAtLeast(0.97)).reached,
            Some(false)
        );
        assert_eq!(
            record.clone().goal(Goal::MoreByAtMost(-5.0)).reached,
            Some(false)
        );
        assert_eq!(record.goal(Goal::AtMost(96.0)).reached, Some(true));
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn numbers_are_rounded_to_what_counts() {
        assert_eq!(rounded(1_234_567.8), "1,234,568");
        assert_eq!(rounded(12.345), "12.3");
        assert_eq!(rounded(0.123), "0.12");
        assert_eq!(rounded(-1234.0), "-1,234");
    }
}
