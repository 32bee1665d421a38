//! The command line, and which command runs. One command a file.
//!
//! Every setting may stand before or after the command's name; without a name it is `run`.

mod check;
mod completions;
mod dead_letters;
mod drop_slot;
mod job;
mod manual;
mod rebuild;
mod run;
mod signals;
mod status;
mod verify;

use std::{ffi::OsString, io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    observe,
    settings::{self, Arguments, Environment, Refusal, Settings},
    stop::Stop,
};

/// Keep an Elasticsearch index equal to a PostgreSQL table
///
/// sync-es reads the whole table once, resuming where it stood if it was stopped, and then follows
/// the table's changes through logical replication, so that every insert, update and delete is
/// found through the alias within milliseconds.
#[derive(Debug, Parser)]
#[command(
    name = "sync-es",
    version,
    disable_help_subcommand = true,
    after_help = AFTER_SHORT_HELP,
    after_long_help = AFTER_LONG_HELP
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
    #[command(flatten)]
    settings: Arguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the table, then follow its changes until stopped (the default)
    Run(RunArguments),
    /// Look at both ends as run does first, change nothing, and say what is to be mended and how
    Check(CheckArguments),
    /// Say how it stands: position, lag, slot, dead letters, runs; also while nothing runs
    Status {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Compare the table and the index, and tell what differs
    Verify(verify::Arguments),
    /// Fill the next generation of the index beside the one that serves, then move the alias to it
    Rebuild(rebuild::Arguments),
    /// Show the documents that Elasticsearch refused, try them again, or drop them
    DeadLetters {
        #[command(subcommand)]
        what: dead_letters::What,
    },
    /// Drop the replication slot, so that PostgreSQL keeps no WAL for it any more
    DropSlot,
    /// Print a script that completes the command line, for the shell that you use
    #[command(
        help_template = "{about}\n\n{usage-heading} sync-es completions <SHELL>\n\n{positionals}"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages, for man
    #[command(
        help_template = "{about}\n\n{usage-heading} sync-es manual <DIRECTORY>\n\n{positionals}"
    )]
    Manual {
        /// A directory that is there, such as /usr/local/share/man/man1
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// Read the table once and end; needs no slot and no logical WAL
    #[arg(long)]
    snapshot_only: bool,
}

#[derive(Debug, Args)]
struct CheckArguments {
    #[command(flatten)]
    run: RunArguments,
    /// Print one JSON object, for programs
    #[arg(long)]
    json: bool,
}

const AFTER_SHORT_HELP: &str = "\
Settings come from flags, then from the environment, then from a TOML file.
`sync-es --help` says more about each of them.";

const AFTER_LONG_HELP: &str = "\
Where settings come from:
  Flags come first, then environment variables, then the TOML file of --config. A key of the file is
  the flag without its dashes, with _ for -: --es-max-retries is es_max_retries = 10.
  Secrets are never flags. Set POSTGRES_URL, ELASTICSEARCH_API_KEY or ELASTICSEARCH_PASSWORD in the
  environment, or name a file in POSTGRES_URL_FILE, ELASTICSEARCH_API_KEY_FILE or
  ELASTICSEARCH_PASSWORD_FILE.

Examples:
  Keep the default table in sync:
    export POSTGRES_URL='postgresql://sync_es:secret@db.example:5432/records'
    export ELASTICSEARCH_URLS='https://es.example:9200' ELASTICSEARCH_API_KEY='…'
    sync-es

  Fill or refresh the index once, and end:
    sync-es --snapshot-only

  See first what is missing, without changing anything:
    sync-es check

  Another table, with another key:
    sync-es --postgres-table shop.orders --postgres-key-column order_id \\
      --elasticsearch-index-name orders_v1 --elasticsearch-index-alias orders

  Completion in bash:
    source <(sync-es completions bash)";

/// Wrong usage, or a setting that cannot be used.
const USAGE: u8 = 2;

/// Runs what the command line asks, with the environment's settings, and gives the exit code.
#[must_use]
pub fn start(argv: &[OsString], environment: &Environment) -> ExitCode {
    match read(argv, environment) {
        Ok(Task::Completions(shell)) => completions::print(shell, &mut CommandLine::command()),
        Ok(Task::Manual(directory)) => manual::write(CommandLine::command(), &directory),
        Ok(Task::Run(settings, snapshot_only)) => with_runtime(&settings, async |settings| {
            Box::pin(run::run(settings, snapshot_only)).await
        }),
        Ok(Task::Verify(settings, arguments)) => with_runtime(&settings, async |settings| {
            Box::pin(verify::verify(settings, &arguments)).await
        }),
        Ok(Task::Rebuild(settings, arguments)) => with_runtime(&settings, async |settings| {
            Box::pin(rebuild::rebuild(settings, &arguments)).await
        }),
        Ok(Task::Check(settings, snapshot_only, form)) => {
            with_runtime(&settings, async |settings| {
                Box::pin(check::check(settings, snapshot_only, form)).await
            })
        }
        Ok(Task::Status(settings, json)) => with_runtime(&settings, async |settings| {
            Box::pin(status::status(settings, json)).await
        }),
        Ok(Task::DeadLetters(settings, what)) => with_runtime(&settings, async |settings| {
            Box::pin(dead_letters::dead_letters(settings, &what)).await
        }),
        Ok(Task::DropSlot(settings)) => with_runtime(&settings, drop_slot::drop_slot),
        Err(Refusal::Usage(error)) => {
            // Help goes to standard output; when that is closed nobody wants it.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
        }
        Err(Refusal::Setting(error)) => {
            tell(&format!(
                "error: {error}\n\nFor more information, try '--help'.\n"
            ));
            ExitCode::from(USAGE)
        }
    }
}

enum Task {
    Run(Box<Settings>, bool),
    Verify(Box<Settings>, verify::Arguments),
    Rebuild(Box<Settings>, rebuild::Arguments),
    Check(Box<Settings>, bool, check::Form),
    Status(Box<Settings>, bool),
    DeadLetters(Box<Settings>, dead_letters::What),
    DropSlot(Box<Settings>),
    Completions(Shell),
    Manual(PathBuf),
}

fn read(argv: &[OsString], environment: &Environment) -> Result<Task, Refusal> {
    let mut command = CommandLine::command();
    let flags = settings::flags(&command, argv)?;
    // These need no settings.
    match parsed(&flags)?.command {
        Some(Command::Completions { shell }) => return Ok(Task::Completions(shell)),
        Some(Command::Manual { directory }) => return Ok(Task::Manual(directory)),
        _ => {}
    }
    let (matches, layers) = settings::layered(&command, argv, &flags, environment)?;
    let line = parsed(&matches)?;
    let reads = matches!(
        line.command,
        None | Some(Command::Run(_) | Command::Check(_))
    );
    if line.run.snapshot_only && !reads {
        let error = command.error(
            clap::error::ErrorKind::ArgumentConflict,
            "--snapshot-only belongs to the commands run and check",
        );
        return Err(Refusal::Usage(Box::new(error)));
    }
    let settings = Box::new(Settings::resolve(line.settings, &layers, environment)?);
    Ok(match line.command {
        Some(Command::Verify(arguments)) => Task::Verify(settings, arguments),
        Some(Command::Rebuild(arguments)) => Task::Rebuild(settings, arguments),
        Some(Command::Status { json }) => Task::Status(settings, json),
        Some(Command::DeadLetters { what }) => Task::DeadLetters(settings, what),
        Some(Command::DropSlot) => Task::DropSlot(settings),
        Some(Command::Check(check)) => {
            let form = if check.json {
                check::Form::Json
            } else {
                check::Form::Text
            };
            let snapshot_only = check.run.snapshot_only || line.run.snapshot_only;
            Task::Check(settings, snapshot_only, form)
        }
        Some(Command::Run(run)) => Task::Run(settings, run.snapshot_only || line.run.snapshot_only),
        Some(Command::Completions { shell }) => Task::Completions(shell),
        Some(Command::Manual { directory }) => Task::Manual(directory),
        None => Task::Run(settings, line.run.snapshot_only),
    })
}

fn parsed(matches: &clap::ArgMatches) -> Result<CommandLine, Refusal> {
    CommandLine::from_arg_matches(matches).map_err(|error| Refusal::Usage(Box::new(error)))
}

fn with_runtime(settings: &Settings, command: impl AsyncFnOnce(&Settings) -> ExitCode) -> ExitCode {
    observe::logs::start(&settings.logs.filter, settings.logs.format);
    for (variable, meant) in &settings.ignored {
        tracing::warn!(
            "{variable} (environment) is no setting and is not read; did you mean {meant}?"
        );
    }
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(command(settings)),
        Err(error) => {
            tell(&format!("error: the system gives no threads: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// The exit code of a command's end; a stop is told first.
fn exit_code(ended: Result<(), Stop>) -> ExitCode {
    let Err(stop) = ended else {
        return ExitCode::SUCCESS;
    };
    tracing::error!(exit_code = stop.exit_code(), "{stop}");
    ExitCode::from(stop.exit_code())
}

/// To standard output; when that is closed nobody wants it, and the exit code says enough.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// To standard error; when that is closed there is nobody to tell.
fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests;
