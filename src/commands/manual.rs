//! `sync-es manual DIRECTORY`: the manual pages, one of the program and one of each command.

use std::{path::Path, process::ExitCode};

/// Writes the pages of `command` into a directory that is there.
pub(super) fn write(command: clap::Command, directory: &Path) -> ExitCode {
    match clap_mangen::generate_to(command, directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let directory = directory.display();
            super::tell(&format!(
                "error: the manual pages cannot be written into {directory}: {error}\n"
            ));
            ExitCode::from(super::USAGE)
        }
    }
}
