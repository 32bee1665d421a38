//! `sync-es completions SHELL`: the script on standard output.

use std::{io::Write, process::ExitCode};

use clap_complete::Shell;

/// Prints the script that completes `command` in `shell`.
pub(super) fn print(shell: Shell, command: &mut clap::Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "sync-es", &mut script);
    match std::io::stdout().write_all(&script) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
