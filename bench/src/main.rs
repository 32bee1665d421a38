//! Measures `sync-es` against what its two ends can do at most, on the same rows in the same run.
//! Started by `scripts/bench`, which makes the servers; `docs/benchmarks.md` has the results.
//!
//! Each figure is a module with `measure`: it interleaves its contestants round by round, so that what
//! else the machine does hits all alike, and hands medians to the report.

mod data;
mod elasticsearch;
mod job;
mod operations;
mod postgres;
mod process;
mod report;
mod replay;
mod sink;

mod changes;
mod follower;
mod cursor;
mod kills;
mod latency;
mod progress;
mod plot;
mod python;
mod scale;
mod snapshot;
mod snapshot_sink;
mod stream;
mod stream_elasticsearch;
mod toast;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::{elasticsearch::Elasticsearch, postgres::Postgres, process::Programs, report::Report};

/// Measures sync-es; see scripts/bench.
#[derive(Debug, Parser)]
#[command(name = "sync-es-bench")]
enum Command {
    /// Measures figures and prints them
    Measure(Arguments),
    /// Reads the table and throws it away: what `measure` starts to see what a client has to use
    Read {
        /// How
        #[arg(value_enum)]
        way: cursor::Way,
        /// The database
        #[arg(long, env = "POSTGRES_URL", hide_env_values = true, value_name = "URL")]
        postgres_url: String,
    },
}

#[derive(Debug, Args)]
struct Arguments {
    /// How many rows
    #[arg(long, value_enum, default_value = "small")]
    size: Size,
    /// Figures to measure, separated by commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FIGURE")]
    only: Vec<Figure>,
    /// How often each contestant runs; the median counts
    #[arg(long, default_value = "3", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where the figures go as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the figure scale is drawn as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// A directory for logs, which stays
    #[arg(long, value_name = "DIR")]
    work: PathBuf,
    /// A superuser's URL
    #[arg(long, env = "POSTGRES_URL", hide_env_values = true, value_name = "URL")]
    postgres_url: String,
    /// The first address counts
    #[arg(
        long,
        env = "ELASTICSEARCH_URLS",
        value_name = "URL",
        value_delimiter = ','
    )]
    elasticsearch_urls: Vec<String>,
    #[command(flatten)]
    programs: Programs,
}

/// How large everything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// Only to see that it works
    Smallest,
    /// Minutes
    Small,
    /// What docs/benchmarks.md shows
    Full,
}

impl Size {
    /// One of three values.
    pub fn pick<T>(self, smallest: T, small: T, full: T) -> T {
        match self {
            Self::Smallest => smallest,
            Self::Small => small,
            Self::Full => full,
        }
    }
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Figure {
    Snapshot,
    SnapshotSink,
    Python,
    Scale,
    Stream,
    StreamElasticsearch,
    Toast,
    Latency,
    Kills,
}

/// What every figure works with.
#[derive(Debug)]
pub struct Bench {
    /// The server that has the rows.
    pub postgres: Postgres,
    /// The server that takes the documents.
    pub elasticsearch: Elasticsearch,
    /// The programs that are started.
    pub programs: Programs,
    /// Where the plot goes, if it is wanted.
    pub plot: Option<PathBuf>,
    /// For logs.
    pub work: PathBuf,
    /// How large everything is.
    pub size: Size,
    /// How often each contestant runs.
    pub rounds: u32,
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Measure(arguments) => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(async {
                // Whatever is measured is dropped at a signal, and with it the programs it has started.
                tokio::select! {
                    measured = run(arguments) => measured,
                    signal = asked_to_end() => bail!("ended by {}", signal?),
                }
            }),
        // One thread, as cheap as it gets.
        Command::Read { way, postgres_url } => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(cursor::read(way, &postgres_url)),
    }
}

async fn asked_to_end() -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

async fn run(arguments: Arguments) -> Result<()> {
    let bench = Bench {
        postgres: Postgres::new(&arguments.postgres_url)?,
        elasticsearch: Elasticsearch::new(
            arguments
                .elasticsearch_urls
                .first()
                .context("no address of Elasticsearch")?,
        ),
        programs: arguments.programs,
        plot: arguments.plot,
        work: arguments.work,
        size: arguments.size,
        rounds: arguments.rounds,
    };
    tokio::fs::create_dir_all(&bench.work).await?;
    let mut report = Report::new(&bench).await?;
    let figures = match &arguments.only[..] {
        [] => Figure::value_variants(),
        only => only,
    };
    for figure in figures {
        measure(*figure, &bench, &mut report)
            .await
            .with_context(|| format!("measuring {figure:?}"))?;
    }
    println!("{report}");
    if let Some(file) = &arguments.json {
        report.write_json(file)?;
    }
    Ok(())
}

async fn measure(figure: Figure, bench: &Bench, report: &mut Report) -> Result<()> {
    eprintln!("bench: {figure:?} …");
    match figure {
        Figure::Snapshot => snapshot::measure(bench, report).await,
        Figure::SnapshotSink => snapshot_sink::measure(bench, report).await,
        Figure::Python => python::measure(bench, report).await,
        Figure::Scale => scale::measure(bench, report).await,
        Figure::Stream => stream::measure(bench, report).await,
        Figure::StreamElasticsearch => stream_elasticsearch::measure(bench, report).await,
        Figure::Toast => toast::measure(bench, report).await,
        Figure::Latency => latency::measure(bench, report).await,
        Figure::Kills => kills::measure(bench, report).await,
    }
}
